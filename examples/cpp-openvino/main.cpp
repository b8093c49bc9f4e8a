// A bundle in C++ with OpenVINO: the golden samples are the judge (see ../shared/golden.hpp).
#include <memory>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

#include "../shared/golden.hpp"

static std::vector<float> values(const ov::Tensor& tensor) {
    const float* first = tensor.data<float>();
    return {first, first + tensor.get_size()};
}

static golden::Engine open(const std::string& path) {
    ov::Core core;
    // In float32: by default OpenVINO computes in bfloat16 or float16 where the processor can.
    auto model = core.compile_model(path, "CPU", ov::hint::inference_precision(ov::element::f32));
    auto request = std::make_shared<ov::InferRequest>(model.create_infer_request());
    return [request](golden::Batch& batch) {
        const auto type = batch.floating() ? ov::element::f32 : ov::element::u8;
        request->set_input_tensor(ov::Tensor(type, ov::Shape(batch.shape), batch.data()));
        request->infer();
        return golden::Outputs{values(request->get_tensor("logits")), values(request->get_tensor("probabilities"))};
    };
}

int main(int argc, char** argv) {
    const std::string build = ov::get_openvino_version().buildNumber;
    const std::string host = "OpenVINO " + build.substr(0, build.find('-')) + " in C++";
    return golden::run(argc, argv, host, {"openvino", "onnx"}, open);
}
