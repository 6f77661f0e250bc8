# Writes OUT, a C++ source with every recipe under DIR as text, so that the program finds them wherever it is.
# usage: cmake -DDIR=recipes -DOUT=recipes.cpp -P embed_recipes.cmake
file(GLOB_RECURSE files RELATIVE ${DIR} ${DIR}/*.toml)
list(SORT files)
set(rows "")
foreach(file ${files})
  file(READ ${DIR}/${file} text)
  string(REGEX REPLACE "\\.toml$" "" name ${file})
  string(APPEND rows "    {\"${name}\", R\"recipe(${text})recipe\"},\n")
endforeach()
file(WRITE ${OUT} "// Made from recipes/ by scripts/embed_recipes.cmake.\n#include \"train/config.h\"\n
namespace glia {
namespace {
constexpr Recipe recipes[] = {\n${rows}};
}
std::span<const Recipe> compiled_recipes() { return recipes; }
}  // namespace glia\n")
