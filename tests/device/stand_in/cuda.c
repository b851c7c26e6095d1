/* A GPU driver for tests without a GPU: memory is the host's, queues are done at once. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int status;

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

status cuInit(unsigned flags) { return flags ? 1 : (getenv("FAKE_NO_GPU") ? 100 : 0); }
status cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
status cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)8; return device; }
/* Every thread must say which context it uses, or nothing of it works. */
static _Thread_local void *current;
status cuCtxSetCurrent(void *context) { current = context; return context == (void *)8 ? 0 : 201; }
status cuDevicePrimaryCtxRelease_v2(int device) { return device; }
status cuDriverGetVersion(int *version) { *version = number("FAKE_DRIVER", 12060); return 0; }

status cuDeviceGetName(char *name, int size, int device) {
    const char *text = getenv("FAKE_GPU");
    strncpy(name, text ? text : "Stand-in", size);
    return device;
}

status cuDeviceGetAttribute(int *value, int attribute, int device) {
    int sm = number("FAKE_SM", 87);
    switch (attribute) {
    case 75: *value = sm / 10; break;
    case 76: *value = sm % 10; break;
    case 16: *value = number("FAKE_SMS", 8); break;
    case 18: *value = number("FAKE_INTEGRATED", 0); break;
    default: return 1;
    }
    return device;
}

status cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *free_bytes = (size_t)number("FAKE_FREE_MB", 6000) << 20;
    *total = (size_t)7600 << 20;
    return 0;
}

status cuMemAlloc_v2(uint64_t *address, size_t size) {
    if (!current) return 201;
    static long given;
    given += (long)(size >> 10);
    if (given > number("FAKE_ROOM_KB", 1 << 30)) return 2;
    void *memory = malloc(size);
    memset(memory, 0x7f, size); /* what lies there is anybody's: as floats, huge */
    *address = (uint64_t)(uintptr_t)memory;
    return memory ? 0 : 2;
}

status cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); return 0; }

status cuMemHostAlloc(void **memory, size_t size, unsigned flags) {
    if (!current) return 201;
    *memory = calloc(1, size);
    return *memory && !flags ? 0 : 2;
}

status cuMemFreeHost(void *memory) { free(memory); return 0; }

status cuStreamDestroy_v2(void *stream) { return stream == (void *)16 ? 0 : 400; }

status cuStreamCreate(void **stream, unsigned flags) {
    if (!current) return 201;
    *stream = (void *)16;
    return flags == 1 ? 0 : 1;
}

status cuStreamSynchronize(void *stream) { return stream == (void *)16 ? 0 : 400; }

status cuMemcpyHtoDAsync_v2(uint64_t target, const void *source, size_t size, void *stream) {
    if (!current) return 201;
    memcpy((void *)(uintptr_t)target, source, size);
    return stream == (void *)16 ? 0 : 400;
}

status cuMemcpyDtoHAsync_v2(void *target, uint64_t source, size_t size, void *stream) {
    if (!current) return 201;
    memcpy(target, (const void *)(uintptr_t)source, size);
    return stream == (void *)16 ? 0 : 400;
}

/* An event is the moment when its queue came to it; asking for times out of order is an error. */
struct event { struct timespec at; int happened; };

status cuEventCreate(void **event, unsigned flags) {
    *event = calloc(1, sizeof(struct event));
    return *event && !flags ? 0 : 1;
}

status cuEventDestroy_v2(void *event) { free(event); return 0; }

status cuEventRecord(void *event, void *stream) {
    struct event *mark = event;
    clock_gettime(CLOCK_MONOTONIC, &mark->at);
    mark->happened = 1;
    return stream == (void *)16 ? 0 : 400;
}

status cuEventElapsedTime(float *milliseconds, void *start, void *end) {
    struct event *a = start, *b = end;
    if (!a->happened || !b->happened) return 400;
    *milliseconds = (b->at.tv_sec - a->at.tv_sec) * 1e3f + (b->at.tv_nsec - a->at.tv_nsec) / 1e6f;
    return 0;
}
