// Live use: a capture thread hands over the newest frame, and frames that come while the engine is
// busy are dropped, never queued. What is shown is then at most one inference old.
//
//     pkecho-capture BUNDLE PUBLIC_KEY [SECONDS]
//
// The "scanner" here draws a dark ellipse that beats, 50 times a second.
#include <pkecho.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr uint32_t width = 640, height = 480;
constexpr double fps = 50;

struct Picture {
    std::vector<uint8_t> pixels = std::vector<uint8_t>(width * height);
    double timestamp_s = 0;
};

// One place for one picture: a newer one takes the place of an older one that nobody took.
class Newest {
public:
    // Give a picture, and get one back to draw into.
    void put(std::unique_ptr<Picture> &picture) {
        const std::lock_guard<std::mutex> lock(mutex_);
        dropped_ += picture_is_new_ ? 1 : 0;
        picture_.swap(picture);
        picture_is_new_ = true;
        changed_.notify_one();
    }

    // Wait for a picture that is new; false once there will be none.
    bool take(std::unique_ptr<Picture> &picture) {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return picture_is_new_ || closed_; });
        if (!picture_is_new_) return false;
        picture_.swap(picture);
        picture_is_new_ = false;
        return true;
    }

    void close() {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
        changed_.notify_one();
    }

    unsigned dropped() const { return dropped_; }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::unique_ptr<Picture> picture_ = std::make_unique<Picture>();
    bool picture_is_new_ = false, closed_ = false;
    unsigned dropped_ = 0;
};

void draw(Picture &picture, double time_s) {
    const double beat = 1 - 0.2 * (1 - std::cos(2 * 3.14159265 * time_s)) / 2;
    for (uint32_t row = 0; row < height; ++row) {
        for (uint32_t column = 0; column < width; ++column) {
            const double y = (row - height * 0.45) / (height * 0.30 * beat);
            const double x = (column - width * 0.5) / (width * 0.12 * beat);
            const double wall = std::exp(-std::abs(x * x + y * y - 1) * 2);
            picture.pixels[row * width + column] = static_cast<uint8_t>(30 + 180 * wall);
        }
    }
    picture.timestamp_s = time_s;
}

void capture(Newest &newest, double seconds) {
    auto picture = std::make_unique<Picture>();
    const auto began = std::chrono::steady_clock::now();
    for (int frame = 0; frame < seconds * fps; ++frame) {
        const std::chrono::duration<double> at(frame / fps);
        std::this_thread::sleep_until(
            began + std::chrono::duration_cast<std::chrono::steady_clock::duration>(at));
        draw(*picture, at.count());
        newest.put(picture);
    }
    newest.close();
}

struct Closer {
    void operator()(pkecho_bundle *bundle) const { pkecho_bundle_close(bundle); }
    void operator()(pkecho_engine *engine) const { pkecho_engine_close(engine); }
    void operator()(pkecho_stream *stream) const { pkecho_stream_close(stream); }
};
template <typename T>
using Handle = std::unique_ptr<T, Closer>;

// Opens everything; an error ends the program, as a scanner's start would.
Handle<pkecho_stream> open_stream(const char *path, const std::string &public_key) {
    const char *key = public_key.c_str();
    pkecho_bundle_options trust;
    pkecho_bundle_options_default(&trust);
    trust.public_keys = &key;
    trust.public_key_count = 1;
    pkecho_error error = PKECHO_ERROR_INIT;
    pkecho_bundle *bundle = nullptr;
    pkecho_engine *engine = nullptr;
    pkecho_stream *stream = nullptr;
    pkecho_status status = pkecho_bundle_open(path, &trust, &bundle, &error);
    const Handle<pkecho_bundle> owned_bundle(bundle);
    if (status == PKECHO_OK) status = pkecho_engine_open(bundle, nullptr, &engine, &error);
    const Handle<pkecho_engine> owned_engine(engine);
    if (status == PKECHO_OK) status = pkecho_stream_open(engine, nullptr, &stream, &error);
    if (status != PKECHO_OK) {
        std::fprintf(stderr, "pkecho-capture: %s: %s\n", pkecho_status_name(status), error.message);
        std::exit(1);
    }
    return Handle<pkecho_stream>(stream);  // it keeps what it needs of the other two
}

}  // namespace

int main(int argc, char **argv) {
    if (argc < 3) {
        std::fprintf(stderr, "pkecho-capture BUNDLE PUBLIC_KEY [SECONDS]\n");
        return 2;
    }
    std::ifstream key_file(argv[2]);
    if (!key_file) {
        std::fprintf(stderr, "pkecho-capture: cannot read the public key %s\n", argv[2]);
        return 1;
    }
    const std::string key(std::istreambuf_iterator<char>(key_file), {});
    const Handle<pkecho_stream> stream = open_stream(argv[1], key);

    Newest newest;
    std::thread thread(capture, std::ref(newest), argc > 3 ? std::atof(argv[3]) : 5.0);
    auto picture = std::make_unique<Picture>();
    pkecho_frame frame;
    pkecho_result result;
    pkecho_frame_default(&frame);
    pkecho_result_default(&result);
    frame.width = width;
    frame.height = height;
    frame.stride = width;
    frame.spacing_row_mm = frame.spacing_column_mm = 0.3;
    pkecho_error error = PKECHO_ERROR_INIT;
    unsigned shown = 0;
    while (newest.take(picture)) {
        frame.data = picture->pixels.data();
        frame.timestamp_s = picture->timestamp_s;
        if (pkecho_stream_push(stream.get(), &frame, &result, &error) != PKECHO_OK) {
            std::fprintf(stderr, "pkecho-capture: %s\n", error.message);  // one frame is missing
            continue;
        }
        ++shown;
        if (result.flags & PKECHO_FRAME_NEW_BEAT) {
            const bool valid = (result.beat.flags & PKECHO_BEAT_VALID) != 0;
            std::printf("beat %llu: EF %.1f %%%s\n",
                        static_cast<unsigned long long>(result.beat.number),
                        result.beat.ejection_fraction, valid ? "" : "  not valid");
        }
    }
    thread.join();
    std::printf("%u frames shown, %u dropped, the last took %.2f ms\n", shown, newest.dropped(),
                result.latency_ms);
    return 0;
}
