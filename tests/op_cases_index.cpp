#include <cmath>

#include "kernels/index.h"
#include "kernels/sort.h"
#include "tests/op_cases.h"

namespace glia::tests {
namespace {

void index_cases(OpCases& cases) {
  struct Indexed {
    const char* label;
    Shape x, like, list;  // an index like x but for the axis; a list
    int axis;
  };
  const std::vector<Indexed> shapes{
      {"first axis", {9, 17}, {6, 17}, {6}, 0},
      {"last axis", {9, 17}, {9, 5}, {20}, 1},
      {"middle axis", {3, 7, 5}, {3, 11, 5}, {11}, -2},
      {"many rows", {300, 64}, {900, 64}, {900}, 0},
      {"one row again and again", {1, 8}, {40, 8}, {40}, 0},
      {"one element", {1}, {1}, {1}, 0},
      {"no indices", {4, 3}, {0, 3}, {0}, 0},
      {"a list", {33}, {50}, {50}, 0},
      {"images", {5, 6, 7, 16}, {3, 6, 7, 16}, {3}, 0},
      {"long runs of equal indices", {3, 6}, {700, 6}, {700}, 0},
      {"long runs, middle axis", {2, 4, 8}, {2, 300, 8}, {300}, 1},
      {"one class of many", {40, 7, 19}, {40, 7, 1}, {1}, -1},
      {"wide rows", {4, 1500}, {6, 1500}, {6}, 0},
  };
  for (const Indexed& s : shapes) {
    const int64_t n = s.x[s.axis];
    Shape selected = s.x;
    selected.set(s.axis, s.list[0]);
    cases.push_back(op_case(s.label, Gather{.axis = s.axis}, {normal(s.x), integers(s.like, n)}));
    cases.push_back(op_case(s.label, IndexSelect{.axis = s.axis}, {normal(s.x), integers(s.list, n)}));
    cases.push_back(op_case(s.label, ScatterAdd{.axis = s.axis}, {normal(s.x), integers(s.like, n), normal(s.like)}));
    cases.push_back(op_case(s.label, IndexAdd{.axis = s.axis}, {normal(s.x), integers(s.list, n), normal(selected)}));
  }
  cases.push_back(op_case("bytes", Gather{.axis = 1}, {mask({9, 17}), integers({9, 5}, 17)}));
  cases.push_back(op_case("int64", Gather{.axis = 0}, {integers({9, 17}, 1000), integers({5, 17}, 9)}));
  cases.push_back(op_case("rows of bytes", IndexSelect{.axis = 0}, {mask({9, 48}), integers({20}, 9)}));
  cases.push_back(op_case("odd rows of bytes", IndexSelect{.axis = 0}, {mask({9, 7}), integers({20}, 9)}));
  cases.push_back(op_case("int64", IndexSelect{.axis = 1}, {integers({9, 6, 3}, 1000), integers({20}, 6)}));
  // A padding row that nothing reads: one that is read has, by definition, another gradient than its difference quotient (the
  // fixtures have such cases).
  const auto embed = [&](const char* label, const Shape& w, const Shape& index, bool padded) {
    const Embedding op{.padding_index = padded ? w[0] - 1 : -1};
    cases.push_back(op_case(label, op, {normal(w), integers(index, padded ? w[0] - 1 : w[0])}));
  };
  embed("words", {9, 17}, {3, 5}, false);
  embed("padding", {9, 17}, {3, 5}, true);
  embed("one word", {9, 16}, {1}, false);
  embed("a scalar", {9, 16}, {}, false);
  embed("no words", {9, 16}, {0, 5}, true);
  embed("width 1", {5, 1}, {40}, true);
  embed("a large table", {500, 48}, {7, 90}, true);
  embed("one entry", {1, 3}, {2, 2, 2}, false);
}

void where_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Shape& m, const Shape& a, const Shape& b) {
    cases.push_back(op_case(label, Where{}, {mask(m), normal(a), normal(b)}));
  };
  add("same", {5, 33}, {5, 33}, {5, 33});
  add("a row", {9, 17}, {9, 17}, {1, 17});
  add("a scalar", {4, 5}, {4, 5}, {});
  add("a column and a row", {6, 1}, {1, 7}, {6, 1});
  add("a mask of pixels", {2, 3, 4, 1}, {2, 3, 4, 5}, {5});
  add("other ranks", {3, 1, 5}, {4, 1}, {2, 1, 1, 1});
  add("one", {1}, {1}, {1});
  add("nothing", {0, 4}, {1, 4}, {0, 1});
  add("large", {200, 300}, {200, 300}, {200, 300});
  add("six axes", {2, 1, 3, 1, 2, 1}, {2, 3, 1, 2, 1, 3}, {1, 3, 3, 1, 2, 3});
  cases.push_back(op_case("bytes", Where{}, {mask({5, 48}), mask({5, 48}), mask({5, 48})}));
  cases.push_back(op_case("int64, a scalar", Where{}, {mask({5, 9}), integers({5, 9}, 1000), integers({}, 1000)}));
}

void sort_cases(OpCases& cases) {
  struct Sorted {
    const char* label;
    Shape x;
    int axis;
    int64_t k;
  };
  const std::vector<Sorted> shapes{
      {"rows", {9, 17}, -1, 5},         {"columns", {17, 9}, 0, 17},
      {"middle", {3, 8, 5}, 1, 3},      {"one", {1}, 0, 1},
      {"no rows", {0, 4}, 1, 2},        {"none of them", {3, 4}, 1, 0},
      {"a long list", {20000}, 0, 100}, {"one of many", {5000}, 0, 1},
      {"pairs", {400, 2}, 1, 1},        {"all of many", {3, 6000}, 1, 6000},
  };
  for (const Sorted& s : shapes) {
    for (const bool down : {false, true}) {
      const std::string label = std::string(s.label) + (down ? ", largest first" : ", smallest first");
      cases.push_back(op_case(label, Sort{.axis = s.axis, .descending = down}, {distinct(s.x)}));
      cases.push_back(op_case(label, TopK{.k = s.k, .axis = s.axis, .largest = down}, {distinct(s.x)}));
    }
  }
}

// Values among few, some NaN, -0 and infinite: equal ones keep their order.
void tied_sort_cases(OpCases& cases) {
  const auto add = [&](const char* label, const Shape& x, const auto& op) {
    OpCase c = op_case(label, op, {});
    c.inputs = {constant(uniform(x, -0.005, 0.005)), integers(x, 40)};
    c.has_gradient = false;
    c.run = [op](std::span<const Tensor> in) {
      const NoGrad no_grad;
      const Tensor kind = in[1].to(Device{});
      Tensor x = in[0].to(Device{}).clone();
      const double special[] = {std::nan(""), 0.0, -0.0, double(INFINITY), -double(INFINITY)};
      for (int64_t i = 0; i < x.size(); ++i) {
        const auto k = size_t(kind.data<int64_t>()[i]);
        if (k >= std::size(special)) continue;
        dispatch_floating(x.dtype(), "special", [&]<class T>(T) { x.data<T>()[i] = T(special[k]); });
      }
      const auto out = apply(op, x.to(in[0].device()));
      return std::vector<Tensor>(out.begin(), out.end());
    };
    cases.push_back(c);
  };
  for (const bool down : {false, true}) {
    add("ties, rows", {7, 60}, Sort{.axis = 1, .descending = down});
    add("ties, columns", {300, 3}, Sort{.axis = 0, .descending = down});
    add("ties, a long list", {5000}, Sort{.axis = 0, .descending = down});
    add("ties, long columns", {2, 2500, 3}, Sort{.axis = 1, .descending = down});
    for (const int64_t k : {1, 400, 2048, 2500}) add("ties, a long list", {5000}, TopK{.k = k, .axis = 0, .largest = down});
    add("ties, long columns", {2, 2500, 3}, TopK{.k = 700, .axis = 1, .largest = down});
    add("ties, rows", {7, 60}, TopK{.k = 13, .axis = 1, .largest = down});
  }
}

const RegisterOpCases index([](OpCases& cases) {
  index_cases(cases);
  where_cases(cases);
  sort_cases(cases);
  tied_sort_cases(cases);
});

}  // namespace
}  // namespace glia::tests
