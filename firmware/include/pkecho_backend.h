/* pkecho_backend.h - what a back-end of libpkecho is: a shared library that runs engines.
 *
 * libpkecho-backend-TARGET.so, where TARGET is the manifest's, exports one function:
 *
 *     const pkecho_backend *pkecho_backend_entry(void);
 *
 * A back-end is given bytes that were verified, never paths into a bundle. It follows the rules of
 * pkecho.h: no exception leaves it, it never aborts, and it writes to no stream but the log
 * callback. Functions return a status and, where it is not PKECHO_OK, one line in `message`.
 *
 * Threads: load and bind may be called by several threads at once; each request is run by one
 * thread at a time, different requests by several. A request lives no longer than its session.
 */
#ifndef PKECHO_BACKEND_H
#define PKECHO_BACKEND_H

#include "pkecho.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PKECHO_BACKEND_ABI      1
#define PKECHO_BACKEND_MAX_RANK 8

typedef enum pkecho_element { PKECHO_U8 = 0, PKECHO_F32 = 1 } pkecho_element;

typedef struct pkecho_backend_tensor {
    const char *name;
    pkecho_element element;
    uint32_t rank;
    int64_t shape[PKECHO_BACKEND_MAX_RANK];
    void *data;   /* C order, of `bind` only; NULL in a description */
    size_t bytes; /* of all elements */
} pkecho_backend_tensor;

typedef struct pkecho_backend_file {
    const char *name; /* relative to the engine's folder: "stream.xml" */
    const uint8_t *data;
    size_t size;
    const char *sha256; /* 64 hexadecimal digits, of `data` */
} pkecho_backend_file;

typedef struct pkecho_backend_pair {
    const char *key, *value;
} pkecho_backend_pair;

/* An engine as its manifest describes it. The files' data lives as long as the session that is made
 * of it; everything else until `load` returns. */
typedef struct pkecho_backend_engine {
    size_t struct_size;
    const char *bundle_id, *target, *profile,
        *mode;                        /* profile "" for none; mode "clip" or "stream" */
    const pkecho_backend_file *files; /* the main file first */
    size_t file_count;
    const pkecho_backend_tensor *inputs, *outputs;
    size_t input_count, output_count;
    const pkecho_backend_pair *options; /* of the manifest's engine entry */
    /* Its toolchain; and "device_kit", the kit's SHA-256, where the bundle holds one. */
    const pkecho_backend_pair *toolchain;
    size_t option_count, toolchain_count;
    const char *cache_dir; /* where compiled things may be kept, "" for nowhere */
    uint32_t threads;      /* 0: as the options say */
    pkecho_log log;        /* never NULL */
    void *log_user;
} pkecho_backend_engine;

typedef struct pkecho_backend {
    uint32_t abi;     /* PKECHO_BACKEND_ABI of the header that it was compiled with */
    const char *name; /* "openvino" */

    /* The runtime and its version, "OpenVINO 2026.4.1"; static. */
    const char *(*runtime)(void);

    /* Make an engine ready. The inputs and outputs of what was loaded must be those described, else
     * PKECHO_ENGINE_INTERFACE. *built is set to 1 where there is an engine now that exists on this
     * device alone, built here or imported: only a self-test can vouch for it. */
    pkecho_status (*load)(const pkecho_backend_engine *engine, void **session, int *built,
                          char *message, size_t message_size);
    void (*unload)(void *session);

    /* Memory for tensors where the device reads it best, aligned to 64 bytes and zeroed; both NULL:
     * any memory is as good. */
    void *(*allocate)(void *session, size_t bytes);
    void (*release)(void *session, void *memory);

    /* An inference tied to memory that stays: each run reads those inputs and fills those outputs.
     */
    pkecho_status (*bind)(void *session, const pkecho_backend_tensor *inputs, size_t input_count,
                          const pkecho_backend_tensor *outputs, size_t output_count, void **request,
                          char *message, size_t message_size);
    pkecho_status (*run)(void *request, char *message, size_t message_size);
    void (*unbind)(void *request);
} pkecho_backend;

typedef const pkecho_backend *(*pkecho_backend_entry_function)(void);

PKECHO_API const pkecho_backend *pkecho_backend_entry(void);

#ifdef __cplusplus
}
#endif

#endif /* PKECHO_BACKEND_H */
