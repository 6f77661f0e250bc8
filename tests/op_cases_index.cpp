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

const RegisterOpCases index([](OpCases& cases) {
  index_cases(cases);
  where_cases(cases);
  sort_cases(cases);
});

}  // namespace
}  // namespace glia::tests
