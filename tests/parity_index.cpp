#include "kernels/index.h"
#include "kernels/sort.h"
#include "tests/parity.h"

namespace glia::tests {
namespace {

int axis_of(const ParityCase& c) { return int(c.integer("axis", 0)); }

template <class Op>
void indexed(const ParityCase& c, const Op& op, const char* table) {
  const Tensor x = c.grad_input(table);
  const Tensor y = apply(op, x, c.input("index"));
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad(table, x);
}

template <class Op>
void added(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x"), src = c.grad_input("src");
  const Tensor y = apply(op, x, c.input("index"), src);
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("x", x);
  c.check_grad("src", src);
}

template <class Op>
void sorted(const ParityCase& c, const Op& op) {
  const Tensor x = c.grad_input("x");
  const auto [values, indices] = apply(op, x);
  c.check("values", values);
  c.check("indices", indices);
  if (!c.has("gout/values")) return;
  c.backward(values, "values");
  c.check_grad("x", x);
}

}  // namespace

PARITY_OP(gather) { indexed(c, Gather{.axis = axis_of(c)}, "x"); }
PARITY_OP(index_select) { indexed(c, IndexSelect{.axis = axis_of(c)}, "x"); }
PARITY_OP(embedding) { indexed(c, Embedding{.padding_index = c.integer("padding_index", -1)}, "w"); }
PARITY_OP(scatter_add) { added(c, ScatterAdd{.axis = axis_of(c)}); }
PARITY_OP(index_add) { added(c, IndexAdd{.axis = axis_of(c)}); }

PARITY_OP(where) {
  const Tensor a = c.grad_input("a"), b = c.grad_input("b");
  const Tensor y = apply(Where{}, c.input("mask").cast(DType::uint8), a, b);
  c.check("y", y);
  c.backward(y, "y");
  c.check_grad("a", a);
  c.check_grad("b", b);
}

PARITY_OP(topk) { sorted(c, TopK{.k = c.integer("k", 1), .axis = axis_of(c), .largest = c.flag("largest", true)}); }
PARITY_OP(sort) { sorted(c, Sort{.axis = axis_of(c), .descending = c.flag("descending", false)}); }

}  // namespace glia::tests
