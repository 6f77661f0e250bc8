#pragma once
// Writes networks as ONNX models (https://onnx.ai/onnx/repo-docs/IR.html; messages and field numbers: onnx.proto). Images are NCHW there.
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/tensor.h"

namespace glia {

// Numbers, texts and lists of integers that a node has besides its inputs.
using OnnxAttribute = std::variant<int64_t, double, std::string, std::vector<int64_t>>;
using OnnxAttributes = std::vector<std::pair<std::string, OnnxAttribute>>;

// A side of an input or output: a number, or the name of one that may differ from run to run.
using OnnxSide = std::variant<int64_t, std::string>;

// A graph that grows node by node; nodes are in the order in which they can be computed.
class OnnxGraph {
 public:
  static constexpr int64_t opset = 17, ir_version = 8;
  static constexpr uint64_t max_bytes = (uint64_t{1} << 31) - 1;  // of protobuf messages

  std::string input(const std::string& name, const std::vector<OnnxSide>& sides);  // float32; gives the name back
  void output(const std::string& name, const std::vector<OnnxSide>& sides);        // float32; some node gives it

  // Weights: float32 or int64, on the host; gives the name back. InternalError for other types.
  std::string constant(const std::string& name, const Tensor& value);

  // Gives the name of the node's one output: that of the node, `name`; "": a new one.
  std::string node(const std::string& op, const std::vector<std::string>& inputs, const OnnxAttributes& attributes = {},
                   std::string name = "");

  // The file's content: graph `name`; `texts` become the model's metadata. DataError where it is more than protobuf can hold.
  std::string model(const std::string& name, const std::map<std::string, std::string>& texts) const;

 private:
  std::string nodes_, constants_, inputs_, outputs_;  // encoded fields of GraphProto
  int64_t count_ = 0;
};

}  // namespace glia
