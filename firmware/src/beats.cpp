#include "beats.h"

#include <algorithm>
#include <cmath>

namespace pkecho {

namespace {

constexpr int fewest_frames = 8;
constexpr double shortest_s = 0.3, longest_s = 2.5;
constexpr double flat_share = 0.95;  // of the ED area

bool is_candidate(const BeatFrame &frame) noexcept {
    return frame.area > 0 && std::isfinite(frame.area);
}

double median_of(double a, double b, double c) noexcept {
    return std::max(std::min(a, b), std::min(std::max(a, b), c));
}

// The first candidate from `at` on, `count` where there is none.
int candidate_from(const BeatFrame *frames, int count, int at) noexcept {
    while (at < count && !is_candidate(frames[at])) ++at;
    return at;
}

// A frame that may be ED or ES: its median counts, then its own area.
struct Candidate {
    const BeatFrame *frame = nullptr;
    double median = 0;

    bool above(const Candidate &other) const noexcept {
        return median != other.median ? median > other.median : frame->area > other.frame->area;
    }
};

// ED and ES as find_ed_es of pkecho_edge/metrics/area_curve.py; false where the curve does not say.
bool find_ed_es(const BeatFrame *frames, int count, const BeatFrame **ed_frame,
                const BeatFrame **es_frame) noexcept {
    int at = candidate_from(frames, count, 0), before = at;
    if (at == count) return false;
    Candidate ed, es;
    while (at < count) {
        const int next = candidate_from(frames, count, at + 1);
        const int after = next < count ? next : at;  // the ends count twice in their own
        const Candidate here{&frames[at],
                             median_of(frames[before].area, frames[at].area, frames[after].area)};
        if (ed.frame == nullptr || here.above(ed)) ed = here;  // the first of equals stays
        if (es.frame == nullptr || es.above(here)) es = here;
        before = at;
        at = next;
    }
    *ed_frame = ed.frame;
    *es_frame = es.frame;
    return ed.median > es.median && ed.frame->area > es.frame->area;
}

// NaN where it cannot be computed.
double ejection_fraction(double ed_volume, double es_volume) noexcept {
    const bool usable =
        ed_volume > 0 && es_volume >= 0 && std::isfinite(ed_volume) && std::isfinite(es_volume);
    return usable ? 100 * (ed_volume - es_volume) / ed_volume : NAN;
}

}  // namespace

pkecho_beat BeatDetector::blank(uint64_t number) noexcept {
    pkecho_beat beat{};
    beat.number = number;
    beat.ed_timestamp_s = beat.es_timestamp_s = NAN;
    beat.ed_volume = beat.es_volume = beat.ejection_fraction = NAN;
    beat.method = "single-plane discs, 20, principal axis";
    return beat;
}

void BeatDetector::restart() noexcept {
    forget();
    beat_ = blank(beat_.number);  // of another patient, perhaps: not to be shown any more
}

// Everything about the sequence.
void BeatDetector::forget() noexcept {
    count_ = 0;
    first_ = 0;
    begun_ = emptied_ = false;
    last_ = -1;
    before_ = 0;
    known_ = 0;
}

bool BeatDetector::push(const BeatFrame &frame, bool spaced) noexcept {
    if (count_ == capacity) forget();
    frames_[count_++] = frame;
    bool ended = false;
    if (is_candidate(frame)) {
        ended = last_ >= 0 && settle(frame.area, spaced);
        last_ = count_ - 1;
    }
    if (!begun_) {  // only the last candidate may yet turn out to begin a beat
        drop(last_ >= 0 ? last_ : count_);
        last_ = std::min(last_, 0);
    }
    return ended;
}

// The next candidate's area completes the last one's median; true where a beat ends before it.
bool BeatDetector::settle(double next_area, bool spaced) noexcept {
    const BeatFrame &last = frames_[last_];
    const double before = before_ > 0 ? before_ : last.area;  // the first counts twice
    const double median = median_of(before, last.area, next_area);
    before_ = last.area;
    note({median, last.timestamp_s, first_ + static_cast<uint64_t>(last_)});
    if (!rises(median)) return false;
    const bool ended = begun_ && report(last_, spaced);
    drop(last_);
    begun_ = true;
    return ended;
}

// Take a median into the range, and those out that have become too old.
void BeatDetector::note(const Median &median) noexcept {
    const auto too_old = [&](const Median &other) {
        if (std::isnan(median.timestamp_s)) return median.position - other.position >= range_frames;
        return median.timestamp_s - other.timestamp_s > range_s;
    };
    while (known_ > 0 && (known_ == capacity || too_old(medians_[oldest_]))) {
        oldest_ = (oldest_ + 1) % capacity;
        --known_;
    }
    medians_[(oldest_ + known_++) % capacity] = median;
}

// Whether the newest median is a cut.
bool BeatDetector::rises(double median) noexcept {
    double least = median, most = median;
    for (int i = 0; i < known_; ++i) {
        const double value = medians_[(oldest_ + i) % capacity].value;
        least = std::min(least, value);
        most = std::max(most, value);
    }
    if (!(most > least * flat_ratio)) return false;
    if (median < least + (most - least) / 3) emptied_ = true;
    if (!emptied_ || !(median > least + (most - least) * 2 / 3)) return false;
    emptied_ = false;
    return true;
}

// The beat of the first `count` frames; false where the curve does not say where ED and ES are.
bool BeatDetector::report(int count, bool spaced) noexcept {
    const BeatFrame *ed = nullptr, *es = nullptr;
    if (!find_ed_es(frames_, count, &ed, &es)) return false;
    beat_.number += 1;
    beat_.frames = static_cast<uint32_t>(count);
    beat_.ed_index = ed->index;
    beat_.es_index = es->index;
    beat_.ed_timestamp_s = ed->timestamp_s;
    beat_.es_timestamp_s = es->timestamp_s;
    beat_.ed_volume = ed->volume;
    beat_.es_volume = es->volume;
    beat_.ejection_fraction = ejection_fraction(ed->volume, es->volume);

    const double seconds = frames_[count].timestamp_s - frames_[0].timestamp_s;  // NaN: untimed
    uint32_t flags = 0;
    // a volume that is no number cannot come from a frame that may be acted on
    if (!ed->valid || !es->valid || std::isnan(beat_.ejection_fraction))
        flags |= PKECHO_BEAT_FRAMES;
    if (count < fewest_frames || seconds < shortest_s) flags |= PKECHO_BEAT_SHORT;
    if (seconds > longest_s) flags |= PKECHO_BEAT_LONG;
    // areas chose the frames: volumes may have grown all the same
    const bool has_not_shrunk = beat_.ejection_fraction <= 0;  // false for NaN
    if (es->area > flat_share * ed->area || has_not_shrunk) flags |= PKECHO_BEAT_FLAT;
    if (!spaced) flags |= PKECHO_BEAT_SPACING;
    if (flags == 0) flags = PKECHO_BEAT_VALID;
    beat_.flags = flags;
    return true;
}

// The first frames, which no beat needs any more.
void BeatDetector::drop(int count) noexcept {
    std::copy(frames_ + count, frames_ + count_, frames_);
    count_ -= count;
    first_ += static_cast<uint64_t>(count);
}

}  // namespace pkecho
