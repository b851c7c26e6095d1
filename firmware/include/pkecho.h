/* pkecho.h - the left ventricle in every frame of a live ultrasound image.
 *
 * A bundle (NAME.pkb, made by `pkecho-edge compile` and signed by `pkecho-edge sign`) goes in; for
 * every frame that is pushed, a mask, its outline and its area come out, and for every heart beat
 * an ejection fraction.
 *
 *     pkecho_error error = PKECHO_ERROR_INIT;
 *     pkecho_bundle *bundle = NULL;
 *     pkecho_engine *engine = NULL;
 *     pkecho_stream *stream = NULL;
 *     pkecho_bundle_options trust;
 *     pkecho_bundle_options_default(&trust);
 *     trust.public_keys = &public_key;             // the text of keys/release.pub
 *     trust.public_key_count = 1;
 *     if (pkecho_bundle_open("heart.pkb", &trust, &bundle, &error) ||
 *         pkecho_engine_open(bundle, NULL, &engine, &error) ||
 *         pkecho_stream_open(engine, NULL, &stream, &error))
 *         return fail(error.message);
 *     pkecho_frame frame;
 *     pkecho_result result;
 *     pkecho_frame_default(&frame);
 *     pkecho_result_default(&result);
 *     result.mask = mask;                          // 600 x 800 bytes of yours
 *     result.mask_bytes = 600 * 800;
 *     frame.width = 800, frame.height = 600, frame.stride = 800;
 *     while ((frame.data = next_frame()) != NULL)
 *         if (pkecho_stream_push(stream, &frame, &result, &error) == PKECHO_OK)
 *             show(mask, result.area_px);
 *     pkecho_stream_close(stream);
 *     pkecho_engine_close(engine);
 *     pkecho_bundle_close(bundle);
 *
 * Threads: a bundle and an engine never change once they are open, and any number of threads may
 * use them at the same time. Streams are independent of one another. One stream belongs to one
 * thread at a time: a second thread that enters it is refused with PKECHO_BUSY, and nothing
 * happens. Handles may be closed in any order and on any thread, but not while another call is in
 * the same handle.
 *
 * Memory: every output is the caller's, and nothing that the library returns needs to be freed but
 * the three handles. A frame is read during the push and not kept. A stream allocates when it is
 * opened and when the frames' geometry changes; for all other frames our own code allocates nothing
 * (a back-end's runtime may).
 *
 * Errors: every call that can fail returns a status, one for each distinct cause, and fills the
 * caller's pkecho_error, which may be NULL, with one line for a log (the get_info functions return
 * the status alone). A call that fails leaves its outputs and its handle as they were; but a push
 * that fails in the back-end while a window begins leaves the window empty. Nothing aborts, no
 * exception leaves the library, and nothing is ever written to stdout or stderr.
 *
 * Versions: structs grow at their end. `struct_size` says how long the caller's is; the *_default
 * functions are compiled into the caller and set it, and a library of another age reads and writes
 * no more than both know. Options that this library does not know must be zero. pkecho_beat, which
 * lies inside of another struct, does not grow. A status, flag or enumerator keeps its number for
 * ever.
 *
 * This is a measuring device's component, not a measuring device: an area or an ejection fraction
 * is worth what its validity flags and the bundle's report say.
 */
#ifndef PKECHO_H
#define PKECHO_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PKECHO_API __attribute__((visibility("default")))
#else
#define PKECHO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define PKECHO_VERSION_MAJOR 1
#define PKECHO_VERSION_MINOR 0
#define PKECHO_VERSION_PATCH 0

/* ---- Status ----------------------------------------------------------------------------------*/

typedef enum pkecho_status {
    PKECHO_OK = 0,

    /* The call. */
    PKECHO_NULL_ARGUMENT = 1,    /* a pointer that must not be NULL is */
    PKECHO_INVALID_ARGUMENT = 2, /* an option outside its range */
    PKECHO_STRUCT_SIZE = 3,      /* a struct whose struct_size no version of this library has had */
    PKECHO_FRAME_SIZE = 4,       /* a frame's side is not 16 to 4096 pixels */
    PKECHO_FRAME_STRIDE = 5,     /* rows that overlap: the stride is smaller than the width */
    PKECHO_FRAME_FORMAT = 6,     /* a pixel format that there is not */
    PKECHO_FRAME_SPACING = 7,    /* a spacing that is negative, not finite, or given for one axis */
    PKECHO_TIMESTAMP = 8, /* not after the last one, infinite, or given for some frames only */
    PKECHO_OUTPUT_TOO_SMALL = 9, /* the mask does not fit the buffer that was given for it */
    PKECHO_BUSY = 10,            /* another thread is in this stream */

    /* The bundle. */
    PKECHO_BUNDLE_NOT_FOUND = 20, /* there is no such folder */
    PKECHO_UNREADABLE = 21,       /* the system refused to read a file, or read it short */
    PKECHO_MANIFEST = 22,         /* manifest.json is damaged, or says what it must not */
    PKECHO_SCHEMA_VERSION = 23,   /* another schema: update this library or the bundle */
    PKECHO_UNSIGNED = 24,         /* no signature, and allow_unsigned is 0 */
    PKECHO_SIGNATURE = 25,        /* a signature that does not fit the manifest, or is damaged */
    PKECHO_SIGNATURE_KEY = 26,    /* signed with a key that is none of the public keys given */
    PKECHO_PUBLIC_KEY = 27,       /* what was given as public key is none, or none was given */
    PKECHO_ROLLBACK = 28,         /* its security version is below the caller's minimum */
    PKECHO_FILE_MISSING = 29,     /* manifest.json or a listed file is not there */
    PKECHO_FILE_CHANGED = 30,     /* a listed file has another size or hash */
    PKECHO_FILE_UNLISTED = 31,    /* a file that is not listed; a link or device in one's place */
    PKECHO_TOO_LARGE = 32,        /* sizes beyond what this library reads */

    /* The engine. */
    PKECHO_NO_ENGINE = 40,        /* the bundle has no engine of this mode */
    PKECHO_BACKEND_MISSING = 41,  /* none for the manifest's target where they are looked for */
    PKECHO_BACKEND_VERSION = 42,  /* a back-end or runtime too old for this library or engine */
    PKECHO_BACKEND_FAILED = 43,   /* the back-end refused the engine */
    PKECHO_ENGINE_INTERFACE = 44, /* other inputs or outputs than the manifest says */
    PKECHO_INFERENCE_FAILED = 45, /* failed on a frame, or gave logits that are not finite */
    PKECHO_STALE_PLAN = 46,       /* a device-built plan does not belong to this bundle or device */
    PKECHO_NO_GOLDEN = 47,        /* no golden vectors, or they contradict each other */
    PKECHO_SELF_TEST_FAILED = 48, /* results too far from the golden vectors */

    /* The machine. */
    PKECHO_OUT_OF_MEMORY = 60,
    PKECHO_INTERNAL = 61 /* a defect of this library: please report the message */
} pkecho_status;

/* The enumerator's name, "PKECHO_OK" for 0; "PKECHO_?" for a number that is none. Never NULL. */
PKECHO_API const char *pkecho_status_name(pkecho_status status);

#define PKECHO_MESSAGE_SIZE 512

/* Filled by a call that fails, with its status and one line of UTF-8: what, which file, and what to
 * do. A call that succeeds leaves it alone. Begin with PKECHO_ERROR_INIT: a struct of any other
 * size is not filled. */
typedef struct pkecho_error {
    size_t struct_size;
    pkecho_status status;
    char message[PKECHO_MESSAGE_SIZE];
} pkecho_error;

#define PKECHO_ERROR_INIT \
    { sizeof(pkecho_error), PKECHO_OK, "" }

/* ---- Library ---------------------------------------------------------------------------------*/

/* "MAJOR.MINOR.PATCH" of the library that runs, which may be newer than this header. */
PKECHO_API const char *pkecho_version(void);

typedef enum pkecho_log_level {
    PKECHO_LOG_ERROR = 0,
    PKECHO_LOG_WARNING = 1,
    PKECHO_LOG_INFO = 2
} pkecho_log_level;

/* Hears what the library has to say, on the thread of the call that made it say so. `message` is
 * one line without newline, gone when the function returns. It must not call the library. */
typedef void (*pkecho_log)(void *user, pkecho_log_level level, const char *message);

/* ---- Bundle: what may be trusted -------------------------------------------------------------*/

typedef struct pkecho_bundle pkecho_bundle;

typedef struct pkecho_bundle_options {
    size_t struct_size;
    /* Texts of minisign public keys (a .pub file's content, or its second line). One of them must
     * have signed the manifest. Several let a key be replaced. */
    const char *const *public_keys;
    size_t public_key_count;
    /* Bundles with a lower security version are refused. Keep the highest one that was ever
     * installed where an older bundle cannot reset it. */
    uint32_t minimum_security_version;
    /* 1 opens a bundle without signature, for development. A signature that is there is checked
     * against the public keys all the same, if any are given. */
    int allow_unsigned;
    /* NULL for none; used by the engines of this bundle, too, by several threads at once where
     * there are several, and until the last handle that came of it is closed. It must not throw. */
    pkecho_log log;
    void *log_user;
} pkecho_bundle_options;

PKECHO_API void pkecho_bundle_options_init(pkecho_bundle_options *options, size_t struct_size);
static inline void pkecho_bundle_options_default(pkecho_bundle_options *options) {
    pkecho_bundle_options_init(options, sizeof *options);
}

/* Check everything about a bundle: the signature of manifest.json, then size and SHA-256 of every
 * file against it, no file unlisted, no link followed. What an engine is loaded from later are the
 * very bytes that were hashed here: they stay in memory, and the folder is not read again. `path`
 * itself may be a link to the bundle.
 *
 * `options` NULL: the defaults, which no unsigned bundle passes and which name no key. */
PKECHO_API pkecho_status pkecho_bundle_open(const char *path, const pkecho_bundle_options *options,
                                            pkecho_bundle **bundle, pkecho_error *error);

typedef struct pkecho_bundle_info {
    size_t struct_size;
    const char *bundle_id; /* "pkb-" and 32 hexadecimal digits: names the content */
    const char *target;    /* "cpu", "jetson", ... */
    const char *profile;   /* the device it was compiled for, "" for none */
    uint32_t security_version;
    uint32_t height, width;      /* of the engine's own frames */
    uint32_t window;             /* T: frames until a stream is no longer warming up */
    int is_signed;               /* 1 where a signature was checked */
    const char *signed_by;       /* id of the key, 16 hexadecimal digits; "" where unsigned */
    const char *trusted_comment; /* of the signature, which covers it; "" where unsigned */
} pkecho_bundle_info;

/* The texts live as long as the bundle. Set info->struct_size first. */
PKECHO_API pkecho_status pkecho_bundle_get_info(const pkecho_bundle *bundle,
                                                pkecho_bundle_info *info);

/* NULL is fine. Engines that were opened from it live on. */
PKECHO_API void pkecho_bundle_close(pkecho_bundle *bundle);

/* ---- Engine: a network, loaded ---------------------------------------------------------------*/

typedef struct pkecho_engine pkecho_engine;

typedef struct pkecho_engine_options {
    size_t struct_size;
    /* Folder of the back-ends, libpkecho-backend-TARGET.so; NULL: the folder "pkecho" beside
     * libpkecho.so itself. No other place is searched, and no other back-end is taken instead. */
    const char *backend_dir;
    /* Folder where a back-end may keep what it compiled, for a faster start; NULL: nowhere. It must
     * exist, and belong to the user that the process runs as; where it cannot be used, the log says
     * so and the engine starts without. What lies there is not signed: it must be as hard to write
     * to as the bundle's public key. */
    const char *cache_dir;
    /* Processor threads of an inference; 0: as the manifest says. */
    uint32_t threads;
    /* 1 runs pkecho_engine_self_test before the engine is returned. A plan of TensorRT, which is
     * built on the device, is always tested. */
    int self_test;
} pkecho_engine_options;

PKECHO_API void pkecho_engine_options_init(pkecho_engine_options *options, size_t struct_size);
static inline void pkecho_engine_options_default(pkecho_engine_options *options) {
    pkecho_engine_options_init(options, sizeof *options);
}

/* Load the bundle's stream engine. `options` NULL: the defaults. */
PKECHO_API pkecho_status pkecho_engine_open(const pkecho_bundle *bundle,
                                            const pkecho_engine_options *options,
                                            pkecho_engine **engine, pkecho_error *error);

typedef struct pkecho_engine_info {
    size_t struct_size;
    const char *backend;         /* the file that was loaded */
    const char *runtime;         /* what it runs on, for example "OpenVINO 2026.4.1" */
    const char *float_precision; /* of layers that are not INT8 */
    double load_ms;              /* what loading took */
} pkecho_engine_info;

/* The texts live as long as the engine. Set info->struct_size first. */
PKECHO_API pkecho_status pkecho_engine_get_info(const pkecho_engine *engine,
                                                pkecho_engine_info *info);

/* What a self-test found, whether or not it passed. */
typedef struct pkecho_self_test_report {
    size_t struct_size;
    uint32_t frames;                 /* that were compared */
    double max_abs_logit_difference; /* over all pixels; infinite where one is not finite */
    double pixels_differ_fraction;   /* of a frame's pixels, in the worst frame */
    double pixels_limit;
    double area_difference_fraction; /* of the golden area, in the worst frame */
    double area_limit;
} pkecho_self_test_report;

/* Run the bundle's golden frames through the engine and compare with the masks and areas that they
 * gave when the bundle was built, within the manifest's tolerances. Do so after an installation and
 * after each update of the operating system: a processor or a runtime that computes otherwise shows
 * here. Takes as long as T + 1 frames. `report` may be NULL; set its struct_size first.
 *
 * PKECHO_SELF_TEST_FAILED where it does not pass; the report is filled then, too. */
PKECHO_API pkecho_status pkecho_engine_self_test(const pkecho_engine *engine,
                                                 pkecho_self_test_report *report,
                                                 pkecho_error *error);

/* NULL is fine. Streams that were opened from it live on. */
PKECHO_API void pkecho_engine_close(pkecho_engine *engine);

/* ---- Stream: frames in, masks out ------------------------------------------------------------*/

typedef struct pkecho_stream pkecho_stream;

typedef struct pkecho_stream_options {
    size_t struct_size;
    /* Frames further apart than this do not belong to one window; above 0, INFINITY for never. */
    double max_gap_s;
    /* Pushes that take longer are flagged PKECHO_FRAME_LATE; 0: none is. */
    double deadline_ms;
    /* 0 leaves out volumes and beats, and saves their time. */
    int measure_beats;
} pkecho_stream_options;

PKECHO_API void pkecho_stream_options_init(pkecho_stream_options *options, size_t struct_size);
static inline void pkecho_stream_options_default(pkecho_stream_options *options) {
    pkecho_stream_options_init(options, sizeof *options);
}

/* Begin a stream with a window of its own. `options` NULL: the defaults. */
PKECHO_API pkecho_status pkecho_stream_open(const pkecho_engine *engine,
                                            const pkecho_stream_options *options,
                                            pkecho_stream **stream, pkecho_error *error);

typedef enum pkecho_pixel_format {
    PKECHO_GREY8 = 0 /* one byte a pixel, 0 is black; the Y plane of NV12 or I420 is one, too */
} pkecho_pixel_format;

typedef struct pkecho_frame {
    size_t struct_size;
    const uint8_t *data;
    uint32_t width, height; /* pixels, 16 to 4096 */
    size_t stride;          /* bytes from a row to the next, at least the width */
    uint32_t format;        /* of pkecho_pixel_format */
    /* Seconds on any clock, strictly increasing; NaN: none. The first frame of a stream, and the
     * first one after a reset, decides whether the stream is timed. */
    double timestamp_s;
    /* Height and width of a pixel in mm; both 0: unknown. */
    double spacing_row_mm, spacing_column_mm;
} pkecho_frame;

PKECHO_API void pkecho_frame_init(pkecho_frame *frame, size_t struct_size);
static inline void pkecho_frame_default(pkecho_frame *frame) {
    pkecho_frame_init(frame, sizeof *frame);
}

typedef struct pkecho_point {
    float x, y; /* pixels of the frame, centres at integers */
} pkecho_point;

/* Bits of pkecho_result.flags. */
enum {
    /* The area may be acted on: none of the next four bits is set. */
    PKECHO_FRAME_VALID = 1u << 0,
    /* The window holds fewer than T frames, and repeats the first one for the rest. */
    PKECHO_FRAME_WARMING_UP = 1u << 1,
    PKECHO_FRAME_EMPTY = 1u << 2,          /* no ventricle was found */
    PKECHO_FRAME_TOUCHES_BORDER = 1u << 3, /* the mask reaches the image's edge: part is outside */
    PKECHO_FRAME_FRAGMENTED = 1u << 4,     /* under 95 % of the mask is its largest component */
    PKECHO_FRAME_LATE = 1u << 5,           /* the push took longer than deadline_ms */
    PKECHO_FRAME_CONTOUR_CUT = 1u << 6,    /* the outline has more points than contour_capacity */
    PKECHO_FRAME_NEW_BEAT = 1u << 7        /* `beat` has changed with this frame */
};

/* Why a window began with a frame. */
typedef enum pkecho_restart {
    PKECHO_RESTART_NONE = 0,     /* it did not */
    PKECHO_RESTART_FIRST = 1,    /* the stream's first frame */
    PKECHO_RESTART_RESET = 2,    /* pkecho_stream_reset */
    PKECHO_RESTART_GEOMETRY = 3, /* the frames' sides changed */
    PKECHO_RESTART_SPACING = 4,  /* the pixels' spacing changed: another depth */
    PKECHO_RESTART_GAP = 5       /* more than max_gap_s since the last frame */
} pkecho_restart;

/* Bits of pkecho_beat.flags. */
enum {
    /* The ejection fraction may be acted on: none of the other bits is set. */
    PKECHO_BEAT_VALID = 1u << 0,
    PKECHO_BEAT_FRAMES = 1u << 1, /* ED or ES frame is not PKECHO_FRAME_VALID */
    PKECHO_BEAT_SHORT = 1u << 2,  /* fewer than 8 frames, or under 0.3 s */
    PKECHO_BEAT_LONG = 1u << 3,   /* over 2.5 s */
    /* ES area above 95 % of ED area, or an ES volume not below ED's: no contraction was seen. */
    PKECHO_BEAT_FLAT = 1u << 4,
    PKECHO_BEAT_SPACING = 1u << 5 /* no spacing was given: volumes are in cubic pixels */
};

/* A heart beat: from one filling of the ventricle to the next. */
typedef struct pkecho_beat {
    uint64_t number; /* 1 for the stream's first; 0: there was none yet */
    uint32_t flags;
    uint32_t frames;                       /* in it */
    uint64_t ed_index, es_index;           /* pkecho_result.index of end-diastole and end-systole */
    double ed_timestamp_s, es_timestamp_s; /* NaN where frames are not timed */
    double ed_volume, es_volume;           /* ml with a spacing, else cubic pixels */
    double ejection_fraction;              /* percent; NaN where it cannot be computed */
    const char *method;                    /* "single-plane discs, 20, principal axis"; static */
} pkecho_beat;

typedef struct pkecho_result {
    size_t struct_size;

    /* Set by the caller, and left alone by the library. */
    uint8_t *mask;           /* gets 255 inside and 0 outside; NULL: not wanted */
    size_t mask_stride;      /* bytes from a row to the next; 0: the frame's width */
    size_t mask_bytes;       /* of the buffer: at least stride * (height - 1) + width */
    pkecho_point *contour;   /* gets the outline; NULL: not wanted */
    size_t contour_capacity; /* points of the buffer; 2048 are plenty for a ventricle */

    /* Filled by a push. */
    uint32_t flags;
    pkecho_restart restart;
    uint64_t index;     /* of the push in the stream's life, from 0; refused ones do not count */
    double timestamp_s; /* as it was pushed */
    uint64_t area_px;
    double area_cm2;      /* NaN without a spacing */
    size_t contour_count; /* points of the whole outline, min(this, capacity) are written; 0
                           * where `contour` is NULL */
    double latency_ms;    /* of the push, wall time: the next three and what lies between */
    double preprocess_ms, inference_ms, postprocess_ms;
    /* The last whole one. Where a window begins anew, its number alone stays: flags are 0 then, and
     * the ejection fraction is NaN, because the frames may be of another patient. */
    pkecho_beat beat;
} pkecho_result;

PKECHO_API void pkecho_result_init(pkecho_result *result, size_t struct_size);
static inline void pkecho_result_default(pkecho_result *result) {
    pkecho_result_init(result, sizeof *result);
}

/* Segment the next frame.
 *
 * The mask has the frame's own geometry. The contour is the outer boundary of the mask's largest
 * component, corners of pixels, clockwise on a screen, the first point not repeated.
 *
 * The window begins anew by itself where the frame's sides or spacing change, or where its
 * timestamp lies more than max_gap_s after the last one. A beat ends where the area, after a
 * running median of three frames, rises above two thirds of its range of the last 3 s (150 frames
 * where untimed), after it was below one third; range and beat go
 * back 1,024 frames at most. */
PKECHO_API pkecho_status pkecho_stream_push(pkecho_stream *stream, const pkecho_frame *frame,
                                            pkecho_result *result, pkecho_error *error);

/* Forget the frames, their timestamps and the beat under way: another patient, another view. */
PKECHO_API pkecho_status pkecho_stream_reset(pkecho_stream *stream, pkecho_error *error);

/* NULL is fine. */
PKECHO_API void pkecho_stream_close(pkecho_stream *stream);

#ifdef __cplusplus
}
#endif

#endif /* PKECHO_H */
