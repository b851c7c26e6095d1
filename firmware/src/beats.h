// Heart beats on the curve of areas, while it is being drawn: the rules of
// pkecho_edge/metrics/area_curve.py, with the range taken over the last seconds.
#pragma once

#include <cstdint>

#include "pkecho.h"

namespace pkecho {

// What a beat needs of a frame.
struct BeatFrame {
    uint64_t index = 0;
    double timestamp_s = 0;  // NaN: untimed
    double area = 0;         // any unit; 0 for an empty mask: no candidate for ED or ES
    double volume = 0;
    bool valid = false;
};

// Frames with an area are candidates. The median of a candidate and its two neighbours is known
// once the next candidate is there, so everything is noticed one candidate late; the first one of a
// sequence counts twice in its own. A beat begins with the candidate whose median rises above two
// thirds of the range, after one was below one third, and ends before the next such candidate. Its
// ED and ES are found as find_ed_es does on its frames alone; where that finds none, nothing is
// reported.
class BeatDetector {
public:
    static constexpr double range_s = 3.0;    // of timed frames
    static constexpr int range_frames = 150;  // of untimed ones
    static constexpr int capacity = 1024;     // frames kept, of a beat and of a range, at most
    // Where the largest median of the range is not above this many times the smallest one, nothing
    // moves: the noise of an unmoving image makes no beats.
    static constexpr double flat_ratio = 1.05;

    // Forget everything but the number of beats: the frames that follow are of another sequence.
    // `beat` keeps the number alone.
    void restart() noexcept;

    // The next frame; true where a beat ended with it (`beat` then holds it). A beat is given up
    // where the frames since its first one outgrow the capacity: the one that has no room begins
    // another sequence.
    // `spaced`: volumes are in ml.
    bool push(const BeatFrame &frame, bool spaced) noexcept;

    const pkecho_beat &beat() const noexcept { return beat_; }

    // What `beat` is where there is none.
    static pkecho_beat blank(uint64_t number) noexcept;

private:
    struct Median {
        double value, timestamp_s;
        uint64_t position;  // of its frame in the sequence
    };
    void forget() noexcept;
    bool settle(double next_area, bool spaced) noexcept;
    void note(const Median &median) noexcept;
    bool rises(double median) noexcept;
    bool report(int count, bool spaced) noexcept;
    void drop(int count) noexcept;

    pkecho_beat beat_ = blank(0);
    // From the beat's first frame on; before the first beat, from the last candidate on.
    BeatFrame frames_[capacity];
    int count_ = 0;
    uint64_t first_ = 0;        // position of frames_[0] in the sequence
    bool begun_ = false;        // frames_[0] is a beat's first one
    int last_ = -1;             // the last candidate, whose median is not known yet; -1: none
    double before_ = 0;         // area of the candidate before it; 0: none
    bool emptied_ = false;      // a median was below one third since the last cut
    Median medians_[capacity];  // of the range, a ring
    int oldest_ = 0, known_ = 0;
};

}  // namespace pkecho
