// ONNX files: what was written, read back by a small reader of protobuf. That they compute what the network computes is checked
// with onnxruntime by tests/peers/check_onnx.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "models/backbone_onnx.h"
#include "models/mask_rcnn.h"
#include "models/unet_onnx.h"

namespace glia {
namespace {

// A field of a protobuf message: `number` of integers, `text` of texts and messages, the bytes of floats.
struct Field {
  int field = 0;
  uint64_t number = 0;
  std::string text;
};

uint64_t read_varint(const std::string& bytes, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = static_cast<uint8_t>(bytes.at(at++));
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
}

std::vector<Field> fields_of(const std::string& message) {
  std::vector<Field> fields;
  for (size_t at = 0; at < message.size();) {
    const uint64_t key = read_varint(message, at);
    Field f{static_cast<int>(key >> 3), 0, {}};
    REQUIRE((key & 7) != 1);
    if ((key & 7) == 0) {
      f.number = read_varint(message, at);
    } else {
      const uint64_t size = (key & 7) == 5 ? 4 : read_varint(message, at);
      REQUIRE(size <= message.size() - at);
      f.text = message.substr(at, size);
      at += size;
    }
    fields.push_back(std::move(f));
  }
  return fields;
}

std::vector<std::string> texts(const std::vector<Field>& fields, int field) {
  std::vector<std::string> found;
  for (const Field& f : fields)
    if (f.field == field) found.push_back(f.text);
  return found;
}

std::string text(const std::string& message, int field) {
  const auto found = texts(fields_of(message), field);
  return found.empty() ? "" : found.back();
}

std::vector<int64_t> numbers(const std::string& message, int field) {
  std::vector<int64_t> found;
  for (const Field& f : fields_of(message))
    if (f.field == field) found.push_back(static_cast<int64_t>(f.number));
  return found;
}

// Names and numbers of an input's or output's sides.
std::string sides(const std::string& info) {
  std::string all;
  for (const std::string& side : texts(fields_of(text(text(text(info, 2), 1), 2)), 1)) {
    if (!all.empty()) all += ' ';
    all += numbers(side, 1).empty() ? text(side, 2) : std::to_string(numbers(side, 1)[0]);
  }
  return all;
}

struct Read {
  std::vector<std::string> operators;          // of the nodes, in order
  std::map<std::string, std::string> tensors;  // TensorProto by name
  std::vector<std::string> inputs, outputs;
  std::string sizes;
};

// Weights of the file by name that are also in `state`: their number; each is there to the bit.
size_t check_weights(const Read& read, const StateDict& state) {
  size_t found = 0;
  for (const auto& [name, message] : read.tensors) {
    const auto t = state.find(name);
    if (t == state.end()) continue;  // sizes and the like
    ++found;
    const Shape& shape = t->second.shape();
    CHECK(numbers(message, 1) == std::vector<int64_t>(shape.begin(), shape.end()));
    CHECK(numbers(message, 2) == std::vector<int64_t>{1});
    const std::string bytes = text(message, 9);
    REQUIRE(bytes.size() == t->second.bytes());
    CHECK(std::memcmp(bytes.data(), t->second.raw(), bytes.size()) == 0);
  }
  return found;
}

// Sees to it that every value is given once, and before it is taken.
Read read_model(const std::string& file) {
  const auto model = fields_of(file);
  REQUIRE(texts(model, 7).size() == 1);
  CHECK(numbers(file, 1) == std::vector<int64_t>{8});
  CHECK(numbers(texts(model, 8).at(0), 2) == std::vector<int64_t>{17});
  const auto graph = fields_of(texts(model, 7)[0]);
  Read read;
  std::set<std::string> known{""};
  const auto give = [&](const std::string& name) { CHECK_MESSAGE(known.insert(name).second, name << " is given twice"); };
  for (const std::string& t : texts(graph, 5)) {
    read.tensors[text(t, 8)] = t;
    give(text(t, 8));
  }
  read.inputs = texts(graph, 11);
  read.outputs = texts(graph, 12);
  for (const std::string& i : read.inputs) give(text(i, 1));
  for (const std::string& n : texts(graph, 1)) {
    const auto node = fields_of(n);
    read.operators.push_back(text(n, 4));
    for (const std::string& i : texts(node, 1)) CHECK_MESSAGE(known.contains(i), text(n, 4) << " takes " << i);
    for (const std::string& o : texts(node, 2)) give(o);
  }
  for (const std::string& o : read.outputs) CHECK(known.contains(text(o, 1)));
  return read;
}

std::vector<UnetOptions> systems() {
  std::vector<UnetOptions> all;
  for (const std::string& name : unet_names()) {
    UnetOptions o{.name = name, .in_channels = 2, .out_channels = 1, .base_channels = 4, .depth = 2};
    all.push_back(o);
    o.bilinear = true;
    o.head = "keras";
    o.out_channels = 3;
    all.push_back(o);
    o.prune = 1;
    if (name == "unet_plus_plus") all.push_back(o);
  }
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("onnx");

TEST_CASE("every UNet's file has the weights to the bit, each value before it is used, and the sides by name") {
  for (const UnetOptions& o : systems()) {
    CAPTURE(o.name);
    CAPTURE(o.bilinear);
    const auto net = make_unet(o);
    net->initialize(7);
    const StateDict state = net->state_dict();
    const Read read = read_model(onnx_of_unet(o, state).model(o.name, {{"config", "x"}}));
    const size_t found = check_weights(read, state);
    size_t wanted = state.size();
    for (const auto& [name, t] : state) wanted -= t.dtype() == DType::int64;  // num_batches_tracked
    if (o.prune == 0) CHECK(found == wanted);
    if (o.prune > 0) CHECK(found < wanted);
    REQUIRE(read.inputs.size() == 1);
    REQUIRE(read.outputs.size() == 1);
    CHECK(text(read.inputs[0], 1) == "image");
    CHECK(sides(read.inputs[0]) == "batch 2 height width");
    CHECK(text(read.outputs[0], 1) == "probability");
    const std::string classes = std::to_string(o.out_channels);
    const bool cropped = o.name == "unet_original";
    CHECK(sides(read.outputs[0]) == fmt::format("batch {} {}", classes, cropped ? "output_height output_width" : "height width"));
  }
}

TEST_CASE("nodes of a small UNet in order") {
  const UnetOptions o{.name = "unet_keras", .base_channels = 2, .depth = 1};
  const auto net = make_unet(o);
  const Read read = read_model(onnx_of_unet(o, net->state_dict()).model(o.name, {}));
  const std::vector<std::string> want{"Conv", "Relu", "Conv",   "Relu", "MaxPool", "Conv", "Relu", "Conv", "Relu",   "Resize",
                                      "Conv", "Relu", "Concat", "Conv", "Relu",    "Conv", "Relu", "Conv", "Sigmoid"};
  CHECK(read.operators == want);
}

TEST_CASE("unet_original: each skip loses what its level has lost on the way") {
  const UnetOptions o{.name = "unet_original", .base_channels = 2, .depth = 3};
  const auto net = make_unet(o);
  const Read read = read_model(onnx_of_unet(o, net->state_dict()).model(o.name, {}));
  for (const char* margin : {"4", "16", "40"})
    CHECK(read.tensors.contains(std::string("begin_") + margin));  // 4, 2 (4 + 4), 2 (16 + 4)
}

TEST_CASE("Mask R-CNN's backbone: its weights to the bit and no others, five levels with sides of their own") {
  using nn::NormKind;
  for (const auto& [norm, fpn_norm] :
       {std::pair{NormKind::frozen_bn, NormKind::none}, {NormKind::bn, NormKind::bn}, {NormKind::gn, NormKind::gn}}) {
    MaskRcnnOptions o;
    o.resnet = {.stem_channels = 32, .res2_channels = 32, .width_per_group = 32, .norm = norm};
    o.fpn_channels = 32;
    o.fpn_norm = fpn_norm;
    o.roi_heads.box_fc_dim = o.roi_heads.mask_conv_dim = 8;
    MaskRcnn net(o);
    net.initialize(7);
    const StateDict state = net.state_dict();
    size_t wanted = 0;
    for (const auto& [name, t] : state) wanted += name.starts_with("backbone.") && t.dtype() == DType::float32;
    const Read read = read_model(onnx_of_backbone(o, state).model("mask_rcnn", {}));
    CHECK(check_weights(read, state) == wanted);
    CHECK(sides(read.inputs.at(0)) == "batch 3 height width");
    REQUIRE(read.outputs.size() == 5);
    for (size_t i = 0; i < 5; ++i) {
      const std::string level = fmt::format("p{}", i + 2);
      CHECK(text(read.outputs[i], 1) == level);
      CHECK(sides(read.outputs[i]) == fmt::format("batch 32 {}_height {}_width", level, level));
    }
    const auto count = [&](const char* op) { return std::count(read.operators.begin(), read.operators.end(), op); };
    CHECK(count("Conv") == 1 + 16 * 3 + 3 + 8);  // stem, bottlenecks, their shortcuts (none in res2 here), laterals and outputs
    CHECK(count("Add") == 16 + 3 + (norm == NormKind::gn ? count("Conv") : 0));
    CHECK(count("Relu") == 1 + 16 * 3);
    CHECK(count("MaxPool") == 2);
    CHECK(count("Resize") == 3);
    CHECK(count("BatchNormalization") == (norm == NormKind::gn ? 0 : count("Conv") - (norm == NormKind::bn ? 0 : 8)));
    CHECK(count("InstanceNormalization") == (norm == NormKind::gn ? count("Conv") : 0));
  }
}

TEST_CASE("a weight that is not there, and one of another type") {
  const UnetOptions o{.base_channels = 2, .depth = 1};
  CHECK_THROWS_WITH_AS(onnx_of_unet(o, {}), doctest::Contains("no conv2d.weight"), InternalError);
  OnnxGraph graph;
  CHECK_THROWS_AS(graph.constant("x", Tensor({1}, DType::uint8)), InternalError);
}

TEST_SUITE_END();

}  // namespace glia
