#pragma once
// A vendor's library opened at its first use, so that a program starts, and runs, where it is absent.
#include <dlfcn.h>

#include <string>

namespace glia::vendor {

class SharedLibrary {
 public:
  explicit SharedLibrary(const char* name) : handle_(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
    if (!handle_) fault_ = dlerror();
  }
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;

  // Sets `function` to the library's function of this name. A missing one is a fault, as is a library that could not be opened.
  template <class Function>
  void get(Function*& function, const char* name) {
    if (!handle_) return;
    function = reinterpret_cast<Function*>(dlsym(handle_, name));
    if (!function && fault_.empty()) fault_ = std::string("it has no function ") + name;
  }

  void set_fault(std::string fault) { fault_ = std::move(fault); }
  const std::string& fault() const { return fault_; }  // empty: usable

 private:
  void* handle_;  // never closed: tensors of statics may outlive main
  std::string fault_;
};

}  // namespace glia::vendor
