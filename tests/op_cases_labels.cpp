#include "kernels/labels.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

const RegisterOpCases labels([](OpCases& cases) {
  for (const Shape& shape :
       {Shape{0, 5}, Shape{1, 1}, Shape{1, 17}, Shape{13, 1}, Shape{7, 9}, Shape{33, 65}, Shape{64, 64}, Shape{5, 200}}) {
    for (const int connectivity : {4, 8})
      cases.push_back(op_case(to_string(shape), ConnectedComponents{.connectivity = connectivity}, {mask(shape)}));
    cases.push_back(op_case(to_string(shape), SquaredDistance{}, {mask(shape)}));
  }
});

}  // namespace
}  // namespace glia::tests
