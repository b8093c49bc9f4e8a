// What the hosts in C++ share: golden/samples.txt of a bundle is read, and the outputs of an engine are judged by it.
//
// The standard library only, C++17. docs/bundle.md specifies the text ("As plain text") and what is allowed
// ("Tolerances"). The SHA-256 of the files is not looked at here: 'toolkit selftest BUNDLE' and the program in
// docs/bundle.md do that.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <limits>
#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace golden {

constexpr double infinite = std::numeric_limits<double>::infinity();

struct Artifact {
    std::string file, format, precision;
    // How far outputs may be off; infinite where that is not judged.
    double logits_absolute, logits_relative, probabilities_absolute, typical;
};

struct Sample {
    std::string file;
    std::vector<std::uint8_t> pixels;           // [H, W, 3], RGB
    std::vector<double> logits, probabilities;  // [C], what is expected
};

struct Bundle {
    std::filesystem::path folder;
    std::size_t height, width, classes;
    std::string input;                    // "images" (uint8 [N, H, W, 3]) or "tensor" (float32 [N, 3, H, W])
    std::vector<double> mean, deviation;  // of each channel, for "tensor"; empty for "images"
    std::vector<Artifact> artifacts;
    std::vector<Sample> samples;
};

// What an engine is fed.
struct Batch {
    std::vector<std::size_t> shape;    // [N, H, W, 3] of pixels, or [N, 3, H, W] of floats
    std::vector<std::uint8_t> pixels;  // one of the two is empty
    std::vector<float> tensor;

    bool floating() const { return !tensor.empty(); }
    void* data() { return floating() ? static_cast<void*>(tensor.data()) : static_cast<void*>(pixels.data()); }
};

// What it answers: [N, C], row by row.
struct Outputs {
    std::vector<float> logits, probabilities;
};

using Engine = std::function<Outputs(Batch&)>;

// The lines of a text, each of which starts with a word that is known beforehand.
class Lines {
  public:
    explicit Lines(const std::filesystem::path& path) : path_(path.string()), file_(path) {
        if (!file_) {
            throw std::runtime_error(path_ + " cannot be read. Bundles of an older toolkit have none: export again.");
        }
        advance();
    }

    bool at(const std::string& word) const { return line_.compare(0, word.size() + 1, word + " ") == 0; }

    void end() const {
        if (file_) {
            fail("should not be there");
        }
    }

    // What follows the word.
    std::string rest(const std::string& word) {
        if (!at(word)) {
            fail("should start with '" + word + "'");
        }
        const std::string found = line_.substr(word.size() + 1);
        advance();
        return found;
    }

    std::vector<double> numbers(const std::string& word, std::size_t count) {
        const std::size_t line = number_;
        std::istringstream text(rest(word));
        text.imbue(std::locale::classic());
        std::vector<double> found{std::istream_iterator<double>(text), {}};
        if (!text.eof() || found.size() != count) {
            number_ = line;
            fail("should hold " + std::to_string(count) + " numbers");
        }
        return found;
    }

    [[noreturn]] void fail(const std::string& what) const {
        throw std::runtime_error(path_ + ": line " + std::to_string(number_) + " " + what + ". Copy the bundle again.");
    }

  private:
    void advance() {
        line_.clear();
        ++number_;
        if (std::getline(file_, line_) && file_.eof()) {
            fail("is cut off");  // every line ends in a line feed
        }
    }

    std::string path_, line_;
    std::ifstream file_;
    std::size_t number_ = 0;
};

inline double limit(std::istream& text) {
    std::string word;
    text >> word;
    if (word == "-") {
        return infinite;
    }
    std::istringstream number(word);
    number.imbue(std::locale::classic());
    double value;
    if (!(number >> value) || !number.eof()) {
        throw std::runtime_error("golden/samples.txt has '" + word + "' for a limit. Copy the bundle again.");
    }
    return value;
}

// The path of a file of the bundle.
inline std::filesystem::path inside(const std::filesystem::path& folder, const std::string& name) {
    const std::filesystem::path path(name);
    if (path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end()) {
        throw std::runtime_error("'" + name + "' leads out of the bundle, which no bundle of toolkit says.");
    }
    return folder / path;
}

inline std::vector<std::uint8_t> read_pixels(const std::filesystem::path& path, std::size_t size) {
    std::ifstream file(path, std::ios::binary);
    std::vector<std::uint8_t> pixels{std::istreambuf_iterator<char>(file), {}};
    if (pixels.size() != size) {
        throw std::runtime_error(path.string() + " has " + std::to_string(pixels.size()) + " bytes and should have " +
                                 std::to_string(size) + ". Copy the bundle again.");
    }
    return pixels;
}

// Read a bundle; the folder of a run that has one will do.
inline Bundle read(std::filesystem::path folder) {
    if (!std::filesystem::exists(folder / "manifest.json") && std::filesystem::exists(folder / "bundle")) {
        folder /= "bundle";
    }
    if (!std::filesystem::exists(folder / "manifest.json")) {
        throw std::runtime_error("there is no bundle in " + folder.string() + ". 'toolkit export' makes one.");
    }
    Lines lines(folder / "golden" / "samples.txt");
    const std::string first = lines.at("samples") ? lines.rest("samples") : "";
    std::istringstream header(first);
    std::size_t version = 0, count = 0, images = 0;
    Bundle bundle{folder, 0, 0, 0, {}, {}, {}, {}, {}};
    header >> version;
    if (version != 1) {
        throw std::runtime_error("the golden samples of " + folder.string() +
                                 " are not of version 1, which is the one that is read here. Update this program.");
    }
    if (!(header >> count >> images >> bundle.height >> bundle.width >> bundle.classes) || count == 0) {
        throw std::runtime_error("the first line of golden/samples.txt lacks numbers. Copy the bundle again.");
    }

    std::istringstream input(lines.rest("input"));
    input.imbue(std::locale::classic());
    input >> bundle.input;
    const std::vector<double> normalization{std::istream_iterator<double>(input), {}};
    if (bundle.input == "tensor" && normalization.size() == 6) {
        bundle.mean.assign(normalization.begin(), normalization.begin() + 3);
        bundle.deviation.assign(normalization.begin() + 3, normalization.end());
    } else if (bundle.input != "images") {
        throw std::runtime_error("the input '" + bundle.input + "' is not known here. Update this program.");
    }

    while (lines.at("artifact")) {
        Artifact artifact{lines.rest("artifact"), lines.rest("format"), lines.rest("precision"), 0, 0, 0, 0};
        std::istringstream limits(lines.rest("limits"));
        artifact.logits_absolute = limit(limits);
        artifact.logits_relative = limit(limits);
        artifact.probabilities_absolute = limit(limits);
        artifact.typical = limit(limits);
        bundle.artifacts.push_back(artifact);
    }
    for (std::size_t index = 0; index < count; ++index) {
        Sample sample{lines.rest("case"), {}, {}, {}};
        sample.logits = lines.numbers("logits", bundle.classes);
        sample.probabilities = lines.numbers("probabilities", bundle.classes);
        sample.pixels = read_pixels(inside(folder, sample.file), bundle.height * bundle.width * 3);
        bundle.samples.push_back(std::move(sample));
    }
    lines.end();
    return bundle;
}

// The first artifact of one of these formats, in the order in which they are given.
inline const Artifact& choose(const Bundle& bundle, const std::vector<std::string>& formats) {
    std::string wanted, found;
    for (const std::string& format : formats) {
        wanted += (wanted.empty() ? "" : " or ") + format;
        for (const Artifact& artifact : bundle.artifacts) {
            if (artifact.format == format && artifact.logits_absolute == infinite) {
                throw std::runtime_error(artifact.file + " is judged by its classes, not here: take another format.");
            }
            if (artifact.format == format) {
                return artifact;
            }
        }
    }
    for (const Artifact& artifact : bundle.artifacts) {
        found += (found.empty() ? "" : ", ") + artifact.format;
    }
    throw std::runtime_error(bundle.folder.string() + " has no artifact of the format " + wanted + ", only " +
                             (found.empty() ? "none" : found) + ": export one with 'toolkit export --formats'.");
}

// Samples from `first` on as an engine takes them.
inline Batch make_batch(const Bundle& bundle, std::size_t first, std::size_t count) {
    Batch batch{{count, bundle.height, bundle.width, 3}, {}, {}};
    for (std::size_t index = first; index < first + count; ++index) {
        const std::vector<std::uint8_t>& pixels = bundle.samples[index].pixels;
        batch.pixels.insert(batch.pixels.end(), pixels.begin(), pixels.end());
    }
    if (bundle.input == "images") {
        return batch;
    }
    batch.shape = {count, 3, bundle.height, bundle.width};
    const std::size_t area = bundle.height * bundle.width;
    for (std::size_t index = 0; index < count; ++index) {
        for (std::size_t channel = 0; channel < 3; ++channel) {
            const float mean = static_cast<float>(bundle.mean[channel]) * 255.0F;
            const float deviation = static_cast<float>(bundle.deviation[channel]) * 255.0F;
            for (std::size_t pixel = 0; pixel < area; ++pixel) {
                const std::uint8_t value = batch.pixels[(index * area + pixel) * 3 + channel];
                batch.tensor.push_back((static_cast<float>(value) - mean) / deviation);
            }
        }
    }
    batch.pixels.clear();
    return batch;
}

// Holds what an engine answers to the limits of an artifact.
class Judge {
  public:
    Judge(const Bundle& bundle, const Artifact& artifact) : bundle_(bundle), artifact_(artifact) {}

    // Compare the answer to the samples from `first` on.
    void hold(const Outputs& outputs, std::size_t first, std::size_t count) {
        const std::size_t values = count * bundle_.classes;
        if (outputs.logits.size() != values || outputs.probabilities.size() != values) {
            failures.push_back("the outputs of " + std::to_string(count) + " images have another shape than expected");
            return;
        }
        for (std::size_t index = 0; index < count; ++index) {
            const Sample& sample = bundle_.samples[first + index];
            double largest = 0;
            for (const double logit : sample.logits) {
                largest = std::max(largest, std::abs(logit));
            }
            const double logits = worst(sample.logits, outputs.logits, index);
            const double probabilities = worst(sample.probabilities, outputs.probabilities, index);
            const std::string where = " of " + sample.file + (count == 1 ? " alone" : " in a batch");
            require("a logit" + where, logits, artifact_.logits_absolute + artifact_.logits_relative * largest);
            require("a probability" + where, probabilities, artifact_.probabilities_absolute);
            largest_difference = std::max(largest_difference, logits);
            const double relative = logits == 0 ? 0 : logits / largest;
            squares_ += relative * relative;
        }
    }

    // Judge the typical error of what was compared since the last time, which is every sample once.
    void hold_typical(const std::string& where) {
        require("the typical logit, as a share of the largest," + where,
                std::sqrt(squares_ / static_cast<double>(bundle_.samples.size())), artifact_.typical);
        squares_ = 0;
    }

    double largest_difference = 0;  // of a logit
    std::vector<std::string> failures;

  private:
    // The largest error of a row; infinite where a value is not finite.
    double worst(const std::vector<double>& expected, const std::vector<float>& actual, std::size_t row) const {
        double largest = 0;
        for (std::size_t index = 0; index < expected.size(); ++index) {
            const double error = std::abs(static_cast<double>(actual[row * expected.size() + index]) - expected[index]);
            largest = std::max(largest, std::isfinite(error) ? error : infinite);
        }
        return largest;
    }

    void require(const std::string& what, double error, double allowed) {
        if (error > allowed || error == infinite) {
            std::ostringstream text;
            text << std::scientific << std::setprecision(2);
            text << what << " is off by " << error << ", allowed " << allowed;
            failures.push_back(text.str());
        }
    }

    const Bundle& bundle_;
    const Artifact& artifact_;
    double squares_ = 0;
};

// Images per second in batches of all samples, measured for half a second.
inline double speed(const Engine& engine, const Bundle& bundle) {
    using Clock = std::chrono::steady_clock;
    Batch all = make_batch(bundle, 0, bundle.samples.size());
    engine(all);  // some engines compile after their first calls
    engine(all);
    std::size_t calls = 0;
    std::chrono::duration<double> passed{0};
    for (const Clock::time_point start = Clock::now(); passed.count() < 0.5; passed = Clock::now() - start) {
        engine(all);
        ++calls;
    }
    return static_cast<double>(calls * bundle.samples.size()) / passed.count();
}

// Run every sample alone and all in one batch, and print what was found. Returns the exit code.
inline int check(const std::string& host, const Bundle& bundle, const Artifact& artifact, const Engine& engine) {
    const std::size_t count = bundle.samples.size();
    Judge judge(bundle, artifact);
    for (std::size_t index = 0; index < count; ++index) {
        Batch one = make_batch(bundle, index, 1);
        judge.hold(engine(one), index, 1);
    }
    judge.hold_typical(" of all samples alone");
    Batch all = make_batch(bundle, 0, count);
    judge.hold(engine(all), 0, count);
    judge.hold_typical(" of all samples in a batch");

    const double per_second = speed(engine, bundle);
    std::cout << "host: " << host << "\nartifact: " << artifact.file << " (" << artifact.format << ", "
              << artifact.precision << ")\ngolden samples: " << count << ", each alone and all together"
              << "\nlargest logit difference: " << std::scientific << std::setprecision(2) << judge.largest_difference
              << "\nimages per second: " << std::fixed << std::setprecision(per_second < 100 ? 1 : 0) << per_second
              << "\n";
    for (const std::string& failure : judge.failures) {
        std::cout << "FAILED: " << failure << "\n";
    }
    std::cout << (judge.failures.empty() ? "passed\n" : "") << std::flush;
    return judge.failures.empty() ? 0 : 1;
}

// The whole program: PROGRAM BUNDLE [FORMAT]. `formats` are those that the engine opens, the best first.
inline int run(int argc, char** argv, const std::string& host, std::vector<std::string> formats,
               const std::function<Engine(const std::string& path)>& open) {
    try {
        if (argc < 2 || argc > 3) {
            throw std::runtime_error(std::string("usage: ") + argv[0] + " BUNDLE [FORMAT]");
        }
        if (argc == 3) {
            formats = {argv[2]};
        }
        const Bundle bundle = read(argv[1]);
        const Artifact& artifact = choose(bundle, formats);
        return check(host, bundle, artifact, open(inside(bundle.folder, artifact.file).string()));
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 2;
    }
}

}  // namespace golden
