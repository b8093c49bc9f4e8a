// A host without an engine: it answers what is expected of the golden samples, or something that is wrong in one way.
// given_engine BUNDLE HOW, see spoil().
#include <cmath>
#include <string>

#include "golden.hpp"

static void spoil(golden::Outputs& outputs, std::size_t images, const std::string& how) {
    if (how == "off" || (how == "alone" && images == 1) || (how == "together" && images > 1)) {
        outputs.logits.back() += 1;
    } else if (how == "nan") {
        outputs.logits.front() = std::nanf("");
    } else if (how == "infinite") {
        outputs.probabilities.front() = INFINITY;
    } else if (how == "swapped" && images > 1) {
        std::swap_ranges(outputs.logits.begin(), outputs.logits.begin() + 3, outputs.logits.end() - 3);
    } else if (how == "short") {
        outputs.probabilities.pop_back();
    } else if (how == "probability") {
        outputs.probabilities.back() += 0.01F;
    } else if (how == "typical") {
        for (float& logit : outputs.logits) {
            logit *= 1 + 2e-5F;
        }
    }
}

int main(int argc, char** argv) {
    const std::string how = argc > 2 ? argv[2] : "right";
    const auto open = [&](const std::string&) -> golden::Engine {
        const golden::Bundle bundle = golden::read(argv[1]);
        return [bundle, how](golden::Batch& batch) {
            const std::size_t size = bundle.height * bundle.width * 3;
            golden::Outputs outputs;
            for (std::size_t image = 0; image < batch.shape[0]; ++image) {
                for (const golden::Sample& sample : bundle.samples) {
                    if (std::equal(sample.pixels.begin(), sample.pixels.end(), batch.pixels.begin() + image * size)) {
                        outputs.logits.insert(outputs.logits.end(), sample.logits.begin(), sample.logits.end());
                        outputs.probabilities.insert(outputs.probabilities.end(), sample.probabilities.begin(),
                                                     sample.probabilities.end());
                    }
                }
            }
            spoil(outputs, batch.shape[0], how);
            return outputs;
        };
    };
    return golden::run(std::min(argc, 2), argv, "nothing", {"onnx"}, open);
}
