/* Play a raw video through a stream: u8 frames of WIDTH x HEIGHT, laid end to end.
 *
 *     pkecho-play BUNDLE PUBLIC_KEY VIDEO WIDTH HEIGHT FPS [MM_PER_PIXEL]
 * PUBLIC_KEY is a .pub file, or "-" for a bundle without signature. Prints frames and beats. */
#include <math.h>
#include <pkecho.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_line(void *user, pkecho_log_level level, const char *message) {
    (void)user;
    fprintf(stderr, "%s: %s\n", level == PKECHO_LOG_INFO ? "info" : "note", message);
}

static int fail(const char *what) {
    fprintf(stderr, "pkecho-play: %s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 7) return fail("usage: BUNDLE PUBLIC_KEY VIDEO WIDTH HEIGHT FPS [MM_PER_PIXEL]");
    char key_text[1024] = "", *key = key_text;
    pkecho_bundle_options trust;
    pkecho_bundle_options_default(&trust);
    trust.log = log_line;
    trust.allow_unsigned = strcmp(argv[2], "-") == 0;
    if (!trust.allow_unsigned) {
        FILE *file = fopen(argv[2], "rb");
        if (file == NULL) return fail("cannot read the public key");
        key_text[fread(key_text, 1, sizeof key_text - 1, file)] = '\0';
        fclose(file);
        trust.public_keys = (const char *const *)&key;
        trust.public_key_count = 1;
    }
    pkecho_error error = PKECHO_ERROR_INIT;
    pkecho_bundle *bundle = NULL;
    pkecho_engine *engine = NULL;
    pkecho_stream *stream = NULL;
    if (pkecho_bundle_open(argv[1], &trust, &bundle, &error) ||
        pkecho_engine_open(bundle, NULL, &engine, &error) ||
        pkecho_stream_open(engine, NULL, &stream, &error))
        return fail(error.message);
    pkecho_frame frame;
    pkecho_frame_default(&frame);
    frame.width = (uint32_t)strtoul(argv[4], NULL, 10);
    frame.height = (uint32_t)strtoul(argv[5], NULL, 10);
    frame.stride = frame.width;
    frame.spacing_row_mm = frame.spacing_column_mm = argc > 7 ? strtod(argv[7], NULL) : 0;
    const double fps = strtod(argv[6], NULL);
    const size_t bytes = (size_t)frame.width * frame.height;
    size_t got = 0;
    uint8_t *pixels = malloc(bytes);
    FILE *video = fopen(argv[3], "rb");
    if (pixels == NULL || bytes == 0 || !(fps > 0)) return fail("WIDTH, HEIGHT, FPS: above 0");
    if (video == NULL) return fail("cannot read the video");
    frame.data = pixels;
    pkecho_result result;
    pkecho_result_default(&result);
    pkecho_status status = PKECHO_OK;
    for (unsigned long n = 0; (got = fread(pixels, 1, bytes, video)) == bytes; ++n) {
        frame.timestamp_s = (double)n / fps;
        status = pkecho_stream_push(stream, &frame, &result, &error);
        if (status != PKECHO_OK) break;
        printf("%6lu  %7.2f ms  area %6lu px", n, result.latency_ms, (unsigned long)result.area_px);
        if (!isnan(result.area_cm2)) printf("  %6.2f cm2", result.area_cm2);
        printf(result.flags & PKECHO_FRAME_VALID ? "\n" : "  not valid (0x%x)\n", result.flags);
        if (result.flags & PKECHO_FRAME_NEW_BEAT)
            printf("beat %lu: EF %.1f %% (%s)%s\n", (unsigned long)result.beat.number,
                   result.beat.ejection_fraction, result.beat.method,
                   result.beat.flags & PKECHO_BEAT_VALID ? "" : "  not valid");
    }
    if (got % bytes) log_line(NULL, PKECHO_LOG_WARNING, "part of a frame is left: its size right?");
    fclose(video);
    free(pixels);
    pkecho_stream_close(stream);
    pkecho_engine_close(engine);
    pkecho_bundle_close(bundle);
    return status == PKECHO_OK ? 0 : fail(error.message);
}
