// The stages between frame and result behind C functions, so that tests can compare them with their
// Python twins. Built as libpkecho-stages.so; not installed.
#include "beats.h"
#include "mask.h"
#include "resize.h"
#include "volume.h"

using pkecho::BeatDetector;
using pkecho::ComponentFinder;

extern "C" {

PKECHO_API void stages_resize_frame(const uint8_t *in, size_t stride, int height_in, int width_in,
                                    uint8_t *out, int height_out, int width_out) {
    pkecho::FrameResizer(height_in, width_in, height_out, width_out).apply(in, stride, out);
}

PKECHO_API void stages_resize_mask(const uint8_t *in, int height_in, int width_in, uint8_t *out,
                                   int height_out, int width_out) {
    pkecho::MaskResizer(height_in, width_in, height_out, width_out).apply(in, out);
}

PKECHO_API void stages_threshold(const float *logits, size_t count, float threshold,
                                 uint8_t *mask) {
    pkecho::threshold(logits, count, threshold, mask);
}

PKECHO_API ComponentFinder *stages_finder_new(int height, int width) {
    return new ComponentFinder(height, width);
}

PKECHO_API void stages_finder_delete(ComponentFinder *finder) { delete finder; }

// found: area, largest, touches_border.
PKECHO_API void stages_find(ComponentFinder *finder, const uint8_t *mask, uint8_t *component,
                            uint64_t *found) {
    const ComponentFinder::Found result = finder->find(mask, component);
    found[0] = result.area;
    found[1] = result.largest;
    found[2] = result.touches_border;
}

PKECHO_API size_t stages_outline(const ComponentFinder *finder, const uint8_t *component,
                                 pkecho_point *points, size_t capacity) {
    return finder->outline(component, points, capacity);
}

PKECHO_API double stages_volume(const uint8_t *mask, int height, int width, double spacing_row,
                                double spacing_column) {
    return pkecho::disc_volume(mask, height, width, spacing_row, spacing_column);
}

PKECHO_API BeatDetector *stages_beats_new() { return new BeatDetector; }

PKECHO_API void stages_beats_delete(BeatDetector *beats) { delete beats; }

PKECHO_API void stages_beats_restart(BeatDetector *beats) { beats->restart(); }

PKECHO_API int stages_beats_push(BeatDetector *beats, uint64_t index, double timestamp_s,
                                 double area, double volume, int valid, int spaced) {
    return beats->push({index, timestamp_s, area, volume, valid != 0}, spaced != 0);
}

PKECHO_API void stages_beats_get(const BeatDetector *beats, pkecho_beat *beat) {
    *beat = beats->beat();
}
}
