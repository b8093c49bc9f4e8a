// A bundle in C++ with libtorch: the golden samples are the judge (see ../shared/golden.hpp).
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/script.h>
#include <torch/version.h>

#include "../shared/golden.hpp"

static std::vector<float> values(const torch::jit::IValue& output) {
    const torch::Tensor tensor = output.toTensor().contiguous();
    const float* first = tensor.const_data_ptr<float>();
    return {first, first + tensor.numel()};
}

// A TorchScript file can hold code that runs when it is opened: open those of people whom you trust.
static golden::Engine open(const std::string& path) {
    auto module = std::make_shared<torch::jit::Module>(torch::jit::load(path, torch::kCPU));
    return [module](golden::Batch& batch) {
        const c10::InferenceMode no_gradients;
        const std::vector<std::int64_t> shape(batch.shape.begin(), batch.shape.end());
        const auto input = torch::from_blob(batch.data(), shape, batch.floating() ? torch::kFloat : torch::kByte);
        const auto outputs = module->forward({input}).toTuple();
        return golden::Outputs{values(outputs->elements()[0]), values(outputs->elements()[1])};
    };
}

int main(int argc, char** argv) {
    return golden::run(argc, argv, std::string("libtorch ") + TORCH_VERSION + " in C++", {"torchscript"}, open);
}
