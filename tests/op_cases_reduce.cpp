// Cases of the reductions: over all axes, first, middle, last and scattered ones; sizes on both sides of the blocks of the fast
// bodies (16 and 512 columns, chunks of some thousands of elements).
#include "kernels/reduce.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

struct Reduction {
  const char* label;
  Shape shape;
  std::vector<int> axes;
  bool keepdim = false;
};

const std::vector<Reduction> reductions{
    {"scalar", {}, {}},
    {"one", {1}, {0}},
    {"all of a little", {3, 5, 7}, {}},
    {"all of a lot", {40001}, {0}},
    {"rows", {5, 65}, {-1}, true},
    {"short rows", {700, 3}, {1}},
    {"long rows", {2, 20000}, {1}},
    {"columns", {65, 37}, {0}},
    {"many rows of few columns", {9000, 5}, {0}},
    {"wide columns", {3, 1300}, {0}, true},
    {"height and width of images", {2, 13, 11, 20}, {1, 2}, true},
    {"all but channels", {3, 9, 11, 33}, {0, 1, 2}},
    {"first and last", {4, 6, 5}, {0, 2}},
    {"first and third of five", {2, 3, 4, 2, 5}, {0, 2}},
    {"one column", {6, 1}, {1}},
    {"no rows", {0, 3}, {1}},
};

template <class Op>
void add(OpCases& cases, const Reduction& r, Op op, bool distinct_values) {
  op.axes = r.axes;
  op.keepdim = r.keepdim;
  cases.push_back(op_case(r.label, op, {distinct_values ? distinct(r.shape) : normal(r.shape)}));
}

const RegisterOpCases reduce([](OpCases& cases) {
  for (const Reduction& r : reductions) {
    add(cases, r, Sum{}, false);
    add(cases, r, Mean{}, false);
    add(cases, r, Max{}, true);
    add(cases, r, Min{}, true);
    if (r.shape.size() != 1 && r.shape[-1] != 1) {
      add(cases, r, Var{.unbiased = true}, false);
      add(cases, r, Var{.unbiased = false}, false);
    }
    if (r.axes.size() == 1) {
      cases.push_back(op_case(r.label, ArgMax{.axis = r.axes[0], .keepdim = r.keepdim}, {distinct(r.shape)}));
      cases.push_back(op_case(r.label, ArgMin{.axis = r.axes[0], .keepdim = r.keepdim}, {distinct(r.shape)}));
      const std::string ties = std::string(r.label) + ", ties";
      cases.push_back(op_case(ties, ArgMax{.axis = r.axes[0]}, {integers(r.shape, 4)}));
      cases.push_back(op_case(ties, ArgMin{.axis = r.axes[0]}, {integers(r.shape, 4)}));
    }
  }
  cases.push_back(op_case("nothing", Sum{.axes = {0}}, {normal({0, 3})}));
  cases.push_back(op_case("nothing", Mean{.axes = {0}}, {normal({0, 3})}));
});

}  // namespace
}  // namespace glia::tests
