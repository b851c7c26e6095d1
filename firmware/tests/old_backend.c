/* A back-end of an ABI that there never was: it must be refused before anything of it is called. */
#include <stddef.h>

#include "pkecho_backend.h"

static const pkecho_backend backend = {
    PKECHO_BACKEND_ABI + 1000, "old", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};

const pkecho_backend *pkecho_backend_entry(void) { return &backend; }
