/* The public header is C99, and names every function that the library exports. */
#include <pkecho.h>
#include <stdio.h>

int main(void) {
    pkecho_error error = PKECHO_ERROR_INIT;
    pkecho_bundle_options trust;
    pkecho_engine_options choice;
    pkecho_stream_options live;
    pkecho_frame frame;
    pkecho_result result;
    pkecho_bundle_info bundle_info = {
        sizeof bundle_info, NULL, NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL};
    pkecho_engine_info engine_info = {sizeof engine_info, NULL, NULL, NULL, 0};
    pkecho_bundle *bundle = NULL;
    pkecho_engine *engine = NULL;
    pkecho_stream *stream = NULL;
    int refused = 0;
    pkecho_bundle_options_default(&trust);
    pkecho_engine_options_default(&choice);
    pkecho_stream_options_default(&live);
    pkecho_frame_default(&frame);
    pkecho_result_default(&result);
    refused += pkecho_bundle_open("/nowhere", &trust, &bundle, &error) != PKECHO_OK;
    refused += pkecho_bundle_get_info(bundle, &bundle_info) == PKECHO_NULL_ARGUMENT;
    refused += pkecho_engine_open(bundle, &choice, &engine, &error) == PKECHO_NULL_ARGUMENT;
    refused += pkecho_engine_get_info(engine, &engine_info) == PKECHO_NULL_ARGUMENT;
    refused += pkecho_engine_self_test(engine, NULL, &error) == PKECHO_NULL_ARGUMENT;
    refused += pkecho_stream_open(engine, &live, &stream, &error) == PKECHO_NULL_ARGUMENT;
    refused += pkecho_stream_push(stream, &frame, &result, &error) == PKECHO_NULL_ARGUMENT;
    refused += pkecho_stream_reset(stream, &error) == PKECHO_NULL_ARGUMENT;
    pkecho_stream_close(stream);
    pkecho_engine_close(engine);
    pkecho_bundle_close(bundle);
    printf("%s %d %s\n", pkecho_version(), refused, pkecho_status_name(error.status));
    return refused == 8 ? 0 : 1;
}
