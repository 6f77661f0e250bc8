#include "data/onnx.h"

#include <bit>
#include <cstring>

#include "tensor/error.h"

namespace glia {
namespace {

// One protobuf message: fields one after the other, each a key (number, wire type) and a value.
// https://protobuf.dev/programming-guides/encoding
class Message {
 public:
  void integer(int field, int64_t value) {
    varint(static_cast<uint64_t>(field) << 3);
    varint(static_cast<uint64_t>(value));
  }
  void real(int field, float value) {
    varint(static_cast<uint64_t>(field) << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) text_ += static_cast<char>(bits >> (8 * i) & 0xff);
  }
  void bytes(int field, std::string_view value) {  // texts and messages within this one too
    varint(static_cast<uint64_t>(field) << 3 | 2);
    varint(value.size());
    text_ += value;
  }
  const std::string& text() const { return text_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>((value & 0x7f) | 0x80);
    text_ += static_cast<char>(value);
  }
  std::string text_;
};

// Values of the enumerations in onnx.proto.
enum ElementType : int64_t { element_float = 1, element_int64 = 7 };
enum AttributeType : int64_t { attribute_float = 1, attribute_int = 2, attribute_string = 3, attribute_ints = 7 };

std::string attribute(const std::string& name, const OnnxAttribute& value) {
  Message m;
  m.bytes(1, name);
  if (const auto* number = std::get_if<double>(&value)) {
    m.real(2, static_cast<float>(*number));
    m.integer(20, attribute_float);
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    m.integer(3, *integer);
    m.integer(20, attribute_int);
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    m.bytes(4, *text);
    m.integer(20, attribute_string);
  } else {
    for (const int64_t i : std::get<std::vector<int64_t>>(value)) m.integer(8, i);
    m.integer(20, attribute_ints);
  }
  return m.text();
}

// ValueInfoProto of a float32 tensor.
std::string value_info(const std::string& name, const std::vector<OnnxSide>& sides) {
  Message shape, tensor, type, info;
  for (const OnnxSide& side : sides) {
    Message m;
    if (const auto* number = std::get_if<int64_t>(&side)) m.integer(1, *number);
    if (const auto* word = std::get_if<std::string>(&side)) m.bytes(2, *word);
    shape.bytes(1, m.text());
  }
  tensor.integer(1, element_float);
  tensor.bytes(2, shape.text());
  type.bytes(1, tensor.text());
  info.bytes(1, name);
  info.bytes(2, type.text());
  return info.text();
}

std::string field(int number, std::string_view content) {
  Message m;
  m.bytes(number, content);
  return m.text();
}

}  // namespace

std::string OnnxGraph::input(const std::string& name, const std::vector<OnnxSide>& sides) {
  inputs_ += field(11, value_info(name, sides));
  return name;
}

void OnnxGraph::output(const std::string& name, const std::vector<OnnxSide>& sides) {
  outputs_ += field(12, value_info(name, sides));
}

std::string OnnxGraph::constant(const std::string& name, const Tensor& value) {
  static_assert(std::endian::native == std::endian::little);  // raw_data is little endian
  GLIA_CHECK(value.dtype() == DType::float32 || value.dtype() == DType::int64, "ONNX: {} is {}", name, name_of(value.dtype()));
  Message m;
  for (const int64_t side : value.shape()) m.integer(1, side);
  m.integer(2, value.dtype() == DType::float32 ? element_float : element_int64);
  m.bytes(8, name);
  m.bytes(9, std::string_view(reinterpret_cast<const char*>(value.raw()), value.bytes()));
  constants_ += field(5, m.text());
  return name;
}

std::string OnnxGraph::node(const std::string& op, const std::vector<std::string>& inputs, const OnnxAttributes& attributes,
                            std::string name) {
  if (name.empty()) name = op + "_" + std::to_string(count_++);
  Message m;
  for (const std::string& input : inputs) m.bytes(1, input);
  m.bytes(2, name);
  m.bytes(3, name);
  m.bytes(4, op);
  for (const auto& [key, value] : attributes) m.bytes(5, attribute(key, value));
  nodes_ += field(1, m.text());
  return name;
}

std::string OnnxGraph::model(const std::string& name, const std::map<std::string, std::string>& texts) const {
  Message operators, m;
  operators.bytes(1, "");  // the operators of ONNX itself
  operators.integer(2, opset);
  m.integer(1, ir_version);
  m.bytes(2, "Glia");
  m.bytes(7, nodes_ + field(2, name) + constants_ + inputs_ + outputs_);
  m.bytes(8, operators.text());
  for (const auto& [key, value] : texts) m.bytes(14, field(1, key) + field(2, value));
  if (m.text().size() > max_bytes) throw DataError("an ONNX file of {} bytes: protobuf allows {}", m.text().size(), max_bytes);
  return m.text();
}

}  // namespace glia
