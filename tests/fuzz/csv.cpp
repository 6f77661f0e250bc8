#include "data/csv.h"

#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {

void fuzz_csv(Bytes bytes) {
  try {
    CsvReader csv({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "fuzz.csv");
    while (csv.next())
      GLIA_CHECK(csv.fields().size() == csv.header().size(), "{} fields under {} columns", csv.fields().size(),
                 csv.header().size());
  } catch (const DataError&) {
  }
}

}  // namespace glia::tests
