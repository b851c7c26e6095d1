#include <pkecho.h>
#include <stdio.h>

int main(void) {
    pkecho_error error = PKECHO_ERROR_INIT;
    pkecho_bundle *bundle = NULL;
    const pkecho_status status = pkecho_bundle_open("/nowhere", NULL, &bundle, &error);
    printf("%s %s\n", pkecho_version(), pkecho_status_name(status));
    return status == PKECHO_OK;
}
