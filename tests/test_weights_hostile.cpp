// Files of weights made to do harm, each with its error, in little memory and without a call of the system but reading (R15 to R17).
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>

#include "data/atomic_file.h"
#include "data/npy.h"
#include "data/weights.h"
#include "tests/paths.h"
#include "tests/weights_bytes.h"

using namespace glia;
using namespace glia::tests;
namespace fs = std::filesystem;

namespace {

struct Hostile {
  std::string what, bytes, phrase;
};

std::vector<Hostile> hostile_pickles() {
  const auto call = [](const char* module, const char* name) {
    return "\x80\2c"s + module + "\n" + name + "\n" + text("touch /tmp/glia_was_here") + "\x85R.";
  };
  std::vector<Hostile> list;
  const std::pair<const char*, const char*> names[] = {
      {"os", "system"},         {"posix", "system"},    {"nt", "system"},           {"builtins", "eval"},
      {"builtins", "exec"},     {"builtins", "open"},   {"__builtin__", "getattr"}, {"subprocess", "Popen"},
      {"webbrowser", "open"},   {"runpy", "run_path"},  {"torch.hub", "load"},      {"torch", "load"},
      {"numpy", "load"},        {"pickle", "loads"},    {"importlib", "reload"},    {"socket", "create_connection"},
      {"collections", "deque"}, {"torch.nn", "Linear"}, {"functools", "partial"},   {"operator", "attrgetter"}};
  for (const char* module : {"os", "sys", "torch", "numpy", "torch._utils", "numpy.core.multiarray", "collections", "_codecs"})
    for (const char* name : {"system", "exec", "load", "__reduce__", "__class__", "getattr", "popen", "fork", "open", "decode"})
      list.push_back({fmt::format("calls {}.{}", module, name), call(module, name), fmt::format("names {}.{}", module, name)});
  for (const auto& [module, name] : names)
    list.push_back({fmt::format("calls {}.{}", module, name), call(module, name), fmt::format("names {}.{}", module, name)});
  list.push_back({"a name from the stack", "\x80\4" + text("os") + text("system") + "\x93.", "names os.system"});
  list.push_back(
      {"a dotted name", "\x80\4" + text("collections") + text("OrderedDict.fromkeys") + "\x93.", "names collections."});
  list.push_back({"INST", "(S'id'\nios\nsystem\n.", "names os.system"});
  list.push_back({"OBJ", "(ccollections\nOrderedDict\no.", "names collections.OrderedDict"});
  list.push_back({"NEWOBJ", "\x80\2ccollections\nOrderedDict\n)\x81.", "names collections.OrderedDict"});
  list.push_back({"NEWOBJ_EX", "\x80\4ccollections\nOrderedDict\n)}\x92.", "names collections.OrderedDict"});
  list.push_back({"an extension's number", "\x80\2\x82\1.", "registry"});
  list.push_back({"a persistent id as text", "\x80\2Pid\n.", "persistent id"});
  list.push_back({"a call of a number", "\x80\2K\1)R.", "no function"});
  list.push_back({"a call of a type", "\x80\2" + "ctorch\nFloatStorage\n)R."s, "torch.FloatStorage is called"});
  list.push_back({"a name of 1 MB", "\x80\2c" + std::string(1'000'000, 'a') + "\nb\n.", "names aaaa"});
  list.push_back({"BUILD of a plain dict", "\x80\2}}b.", "BUILD"});
  list.push_back(
      {"codecs to another encoding", "\x80\2c_codecs\nencode\n" + text("a") + text("rot13") + "\x86R.", "_codecs.encode"});
  list.push_back({"protocol 6", "\x80\6N.", "protocol 6"});
  list.push_back({"an unknown opcode", "\x80\2\xff.", "0xff"});
  list.push_back({"a text longer than the file", "\x80\2X\xff\xff\xff\x7f" + "abc."s, "cut off"});
  list.push_back({"bytes of 2^63", "\x80\4\x8e" + little(uint64_t{1} << 63, 8) + "abc.", "cut off"});
  list.push_back({"a text of negative length", "\x80\2T\xff\xff\xff\xff" + "abc."s, "negative length"});
  list.push_back({"an integer of 2 GB", "\x80\2\x8b\xff\xff\xff\x7f" + "abc."s, "cut off"});
  list.push_back({"a frame beyond the end", "\x80\4\x95" + little(uint64_t{1} << 62, 8) + "N.", "frame"});
  list.push_back({"a memo of 4 billion", "\x80\2Nr\xff\xff\xff\xff.", "memo number"});
  list.push_back({"a memo that was not written", "\x80\2h\5.", "before it is written"});
  list.push_back({"pops from nothing", "\x80\2" + "0."s, "missing on the stack"});
  list.push_back({"pops through a mark", "\x80\2N(\x85.", "missing on the stack"});
  list.push_back({"a mark too few", "\x80\2t.", "mark is missing"});
  list.push_back({"two results", "\x80\2NN.", "want one value"});
  list.push_back({"no result", "\x80\2.", "want one value"});
  list.push_back({"a million values", "\x80\2(" + std::string(1'000'000, 'N') + "t.", "more than 600000 values"});
  list.push_back({"a million lists", "\x80\2(" + std::string(1'000'000, ']') + "t.", "more than 200000 containers"});
  list.push_back({"a million marks", "\x80\2" + std::string(1'000'000, '(') + ".", "marks"});
  list.push_back(
      {"nested 100000 deep", "\x80\2" + std::string(100'000, ']') + std::string(99'999, 'a') + ".", "nested more than"});
  list.push_back(
      {"nested a million deep", "\x80\2" + std::string(1'000'000, ']') + std::string(999'999, 'a') + ".", "more than"});
  list.push_back({"a million memos", "\x80\2N" + std::string(1'000'000, '\x94') + ".", "memo"});
  list.push_back({"a list in itself", "\x80\2]q\0h\0a."s, "nested more than"});
  std::string chain = "(";
  chain += "]q\0"s;
  for (char k = 1; k < 30; ++k) {
    chain += "]q"s + k + "(";
    for (int i = 0; i < 10; ++i) chain += "h"s + static_cast<char>(k - 1);
    chain += "e";
  }
  list.push_back({"a billion laughs in one list", "\x80\2" + chain + "l.", "more than 200000 tensors"});
  list.push_back({"a dict with an odd number of items", "\x80\2}(K\1u.", "no value"});
  list.push_back({"a key that is a tuple", "\x80\2})K\1s.", "neither a text nor an integer"});
  list.push_back({"a key of 2000 bytes", "\x80\2}" + text(std::string(2000, 'k')) + "K\1s.", "a text of 2000 bytes"});
  list.push_back({"a key twice", "\x80\2}(" + text("a") + "K\1" + text("a") + "K\2u.", "\"a\" twice"});
  list.push_back({"a key that is no UTF-8", "\x80\2}X\2\0\0\0\xc3(K\1s."s, "UTF-8"});
  list.push_back({"text after the end", "\x80\2}." + "import os"s, "after the end of the pickle"});
  list.push_back({"a bare type", dict_of("ctorch\nFloatStorage\n"), "neither a tensor, a number nor a text"});
  list.push_back(
      {"tensors without storages", dict_of(tensor(storage(4), "K\0"s, "K\4\x85", "K\1\x85")), "without their storages"});
  list.push_back({"protocol 0, a bad escape", "(dS'a\\xzz'\nI1\ns.", "escape"});
  list.push_back({"protocol 0, an endless line", "(dS'aaaa", "without an end"});
  list.push_back({"protocol 0, 200 digits", "(dS'a'\nL" + std::string(200, '9') + "L\ns.", "beyond 64 bits"});
  list.push_back({"protocol 0, 40 MB of text", "(dS'a'\nV" + std::string(40'000'000, 'x') + "\ns.", "texts of protocol 0"});
  list.push_back({"an array of objects", dict_of(numpy("K\1\x85", "O8", "]")), "element type \"O8\""});
  list.push_back({"an array whose data are a list", dict_of(numpy("K\1\x85", "f4", "]")), "no bytes"});
  list.push_back({"an array with too little data", dict_of(numpy("K\2\x85", "f4", "U\4abcd")), "4 bytes"});
  list.push_back({"an array of 2^62", dict_of(numpy(int8(int64_t{1} << 62) + "\x85", "f4", "U\4abcd")), "4 bytes"});
  list.push_back({"an array of -1", dict_of(numpy(int4(-1) + "\x85", "f4", "U\4abcd")), "negative"});
  list.push_back({"an array with a text beyond Latin-1",
                  dict_of(numpy("K\4\x85", "u1", "c_codecs\nencode\n" + text("ab\xe2\x82\xac") + text("latin1") + "\x86R")),
                  "3 bytes"});
  list.push_back({"an array as a text beyond Latin-1, of the right size",
                  dict_of(numpy("K\3\x85", "u1", "c_codecs\nencode\n" + text("ab\xe2\x82\xac") + text("latin1") + "\x86R")),
                  "not Latin-1"});
  std::string copies = "\x80\2(" + text(std::string(1'000'000, 'k')) + "q\0"s;
  for (int i = 0; i < 20; ++i) copies += "h\0"s;
  list.push_back({"a text of 1 MB, 21 times", copies + "l.", "names and texts of more than"});
  list.push_back({"a dtype of a number", dict_of("cnumpy\ndtype\nK\4\x85R"), "neither a tensor"});
  return list;
}

std::vector<Hostile> hostile_torch_files() {
  const std::string row = "K\4\x85", one = "K\1\x85", zero = "K\0"s;
  std::vector<Hostile> list;
  list.push_back({"a call in data.pkl", torch_zip("\x80\2cos\nsystem\n" + text("id") + "\x85R."), "names os.system"});
  list.push_back({"a storage beyond its member", torch_zip_of(tensor(storage(5), zero, "K\5\x85", one)), "5 elements"});
  list.push_back(
      {"a storage that is missing", torch_zip_of(tensor(storage(4, "FloatStorage", "7"), zero, row, one)), "is missing"});
  list.push_back(
      {"a storage's path", torch_zip_of(tensor(storage(4, "FloatStorage", "../../etc/passwd"), zero, row, one)), "is missing"});
  list.push_back(
      {"an unknown storage", torch_zip_of(tensor(storage(4, "EvilStorage"), zero, row, one)), "names torch.EvilStorage"});
  list.push_back({"2^31 - 1 elements", torch_zip_of(tensor(storage(0x7fffffff), zero, row, one)), "2147483647 elements"});
  list.push_back({"an offset of -1", torch_zip_of(tensor(storage(4), int4(-1), row, one)), "want a storage"});
  list.push_back({"an offset of 2^62", torch_zip_of(tensor(storage(4), int8(int64_t{1} << 62), row, one)), "reaches element"});
  list.push_back({"a side of -1", torch_zip_of(tensor(storage(4), zero, int4(-1) + "\x85", one)), "negative"});
  list.push_back({"a stride of -1", torch_zip_of(tensor(storage(4), zero, row, int4(-1) + "\x85")), "negative"});
  list.push_back(
      {"strides that reach beyond", torch_zip_of(tensor(storage(4), zero, "K\2K\2\x86", "K\4K\1\x86")), "reaches element 5"});
  list.push_back(
      {"strides that overflow", torch_zip_of(tensor(storage(4), zero, row, int8(int64_t{1} << 62) + "\x85")), "reaches"});
  list.push_back(
      {"a size that overflows",
       torch_zip_of(tensor(storage(4), zero, int8(int64_t{1} << 40) + int8(int64_t{1} << 40) + "\x86", zero + zero + "\x86")),
       "overflows"});
  list.push_back({"4 bytes repeated to 4 TB",
                  torch_zip_of(tensor(storage(4), zero, int8(int64_t{1} << 40) + "\x85", zero + "\x85")), "exhaust memory"});
  list.push_back({"fewer strides than sides", torch_zip_of(tensor(storage(4), zero, "K\2K\2\x86", one)), "as many strides"});
  list.push_back({"a shape that is a text", torch_zip_of(tensor(storage(4), zero, text("4"), one)), "no tuple"});
  list.push_back({"a parameter of nothing", torch_zip_of("ctorch._utils\n_rebuild_parameter\nN\x88}\x87R"), "holds no tensor"});
  list.push_back({"a persistent id of a module", torch_zip_of("(" + text("module") + "NNNtQ"), "bare storage"});
  list.push_back(
      {"a wrong checksum of data.pkl", zip_of({{"a/data.pkl", "\x80\2}.", 1}, {"a/version", "3\n"}}), "wrong checksum"});
  list.push_back({"a wrong checksum of a storage",
                  torch_zip(dict_of(tensor(storage(4), zero, row, one)), {{"a/data/0", std::string(16, 'x'), 1}}),
                  "wrong checksum"});
  list.push_back({"no version", zip_of({{"a/data.pkl", "\x80\2}."}}), "without a version"});
  list.push_back({"version 99", zip_of({{"a/data.pkl", "\x80\2}."}, {"a/version", "99\n"}}), "version \"99\""});
  list.push_back({"TorchScript", torch_zip("\x80\2}.", {{"a/constants.pkl", "\x80\2)."}}), "TorchScript"});
  list.push_back({"a byte order of its own", torch_zip("\x80\2}.", {{"a/byteorder", "middle"}}), "byte order"});
  list.push_back({"names that leave the folder", torch_zip("\x80\2}.", {{"../../evil", "x"}}), "leaves the archive"});
  list.push_back({"two members of one name", torch_zip("\x80\2}.", {{"a/data/0", "x"}, {"a/data/0", "y"}}), "two members"});
  list.push_back(
      {"members on top of each other", zip_of({{"a/data.pkl", "\x80\2}."}, {"a/version", "3\n", 0, -1, 0}}), "overlap"});
  list.push_back(
      {"a member larger than the file", zip_of({{"a/data.pkl", "\x80\2}.", 0, 1'000'000}, {"a/version", "3\n"}}), "beyond"});
  list.push_back({"an archive of other things", zip_of({{"evil.py", "import os"}}), "neither PyTorch's"});
  list.push_back({"an archive cut in half", torch_zip_of("K\1").substr(0, 60), "cut off"});
  const std::string object = "\x80\2}" + text("a") + tensor(storage(4), zero, row, one) + "s.";
  list.push_back({"legacy: another version", "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2K\1."s, "want 1001"});
  list.push_back({"legacy: big endian", legacy("\x80\2}" + text("little_endian") + "\x89s.", object), "big-endian"});
  list.push_back({"legacy: no list of storages", legacy(little_endian, object + "\x80\2}."), "list of its storages"});
  list.push_back({"legacy: a storage of no tensor",
                  legacy(little_endian, object + "\x80\2]" + text("9") + "a." + std::string(24, '\0')), "belongs to no tensor"});
  list.push_back({"legacy: another size",
                  legacy(little_endian, object + "\x80\2]" + text("0") + "a." + little(3, 8) + std::string(12, '\0')),
                  "3 elements"});
  list.push_back({"legacy: storages cut off",
                  legacy(little_endian, object + "\x80\2]" + text("0") + "a." + little(4, 8) + std::string(15, '\0')),
                  "15 bytes are left"});
  list.push_back({"legacy: bytes left over",
                  legacy(little_endian, object + "\x80\2]" + text("0") + "a." + little(4, 8) + std::string(17, '\0')),
                  "after the last"});
  const auto with_view = [&](const std::string& view) {  // the sixth field of a storage's id
    std::string id = storage(4);
    id.insert(id.size() - 1, "(" + text("v") + view + "t");
    return legacy(little_endian, "\x80\2}" + text("a") + tensor(id, zero, "K\2\x85", one) + "s.\x80\2]" + text("0") + "a." +
                                     little(4, 8) + std::string(16, '\0'));
  };
  list.push_back({"legacy: a view beyond its storage", with_view("K\3K\2"), "view reaches beyond"});
  list.push_back({"legacy: a view of 1", with_view("K\3K\1"), "reaches element 1, but its storage holds 1"});
  list.push_back({"legacy: a view of -1", with_view("K\3" + int4(-1)), "is damaged"});
  list.push_back({"legacy: a call", legacy("\x80\2cos\nsystem\n)R.", ""), "names os.system"});
  return list;
}

std::vector<Hostile> hostile_other_files() {
  const std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four = "abcd";
  const auto npy = [](const std::string& dict) { return "\x93NUMPY\1\0"s + little(dict.size(), 2) + dict; };
  std::vector<Hostile> list;
  list.push_back({"nothing", "", "empty"});
  list.push_back({"a script", "#!/bin/sh\ntouch /tmp/glia_was_here\n", "no file of weights"});
  list.push_back({"HDF5", "\x89HDF\r\n\x1a\n" + std::string(100, '\0'), "addresses of another size"});
  list.push_back({"a tar archive", std::string(257, '\0') + "ustar" + std::string(250, '\0'), "tar archive"});
  list.push_back({"safetensors: a header of 2^63", little(uint64_t{1} << 63, 8) + header, "header of 9223372036854775808"});
  list.push_back(
      {"safetensors: a hole", safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", four + four), "hole"});
  list.push_back(
      {"safetensors: an overlap",
       safetensors(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}})",
           "abcdef"),
       "overlap"});
  list.push_back(
      {"safetensors: a name twice",
       safetensors(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
           four + four),
       "twice"});
  list.push_back({"safetensors: an archive behind it", safetensors(header, four + torch_zip("\x80\2}.")), "after the last"});
  list.push_back({"safetensors: left over", safetensors(header, four + "PK"), "after the last"});
  list.push_back({"safetensors: cut off", safetensors(header, "abc"), "cut off"});
  list.push_back({"safetensors: nested", safetensors(std::string(100'000, '['), ""), "no file of weights"});
  list.push_back({"safetensors: nested in a dict", safetensors("{\"a\":" + std::string(100'000, '['), ""), "does not belong"});
  list.push_back(
      {"npy: objects", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + "\x80\2N.", "Python objects"});
  list.push_back({"npy: 2^62 elements", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,), }") + four,
                  "4 bytes"});
  list.push_back({"npy: an expression", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),), }") + four,
                  "no number"});
  list.push_back({"npz: objects",
                  zip_of({{"a.npy", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + "\x80\2N."}}),
                  "Python objects"});
  list.push_back({"npz: a name that is no UTF-8",
                  zip_of({{"\xc3(.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }") + four}}), "UTF-8"});
  return list;
}

// Bytes of memory that this process holds, and the most since the last reset.
int64_t status_kb(const char* field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field)) return std::stoll(line.substr(line.find(':') + 1));
  return -1;
}
// From here on a system call that starts, connects, removes or writes to anything ends this process.
bool forbid_harm() {
  constexpr auto load = [](unsigned offset) { return sock_filter(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); };
  constexpr auto kill = sock_filter(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  std::vector<sock_filter> program{load(offsetof(seccomp_data, nr))};
  for (const unsigned call :
       {SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_clone, SYS_clone3, SYS_socket, SYS_connect, SYS_unlink, SYS_unlinkat,
        SYS_rename, SYS_mkdir, SYS_ptrace, SYS_kill, SYS_creat, SYS_open, SYS_chmod}) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    program.push_back(kill);
  }
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3));  // for reading alone
  program.push_back(load(offsetof(seccomp_data, args[2])));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC, 0, 1));
  program.push_back(kill);
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// What a child process that may do no harm exits with after `work`; -1 where it was ended.
int in_a_cage(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    if (!forbid_harm()) _exit(3);
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace

TEST_SUITE_BEGIN("weights");

TEST_CASE("hostile files of weights: a clear error that names the file, and little memory (R15, R16, R17)") {
  const TemporaryFolder folder;
  const std::string path = (folder / "weights").string();
  size_t count = 0;
  for (const auto& make : {hostile_pickles, hostile_torch_files, hostile_other_files}) {
    for (const Hostile& h : make()) {
      INFO(h.what);
      std::ofstream(path, std::ios::binary) << h.bytes;
      std::string message;
      reset_peak();
      const int64_t before = status_kb("VmRSS");
      try {
        const Weights weights = read_weights(path);
        for (const StoredTensor& t : weights.tensors) t.bytes(path);
      } catch (const DataError& e) {
        message = e.what();
      }
      const int64_t taken = status_kb("VmHWM") - before;
      INFO(message.substr(0, 500));
      CHECK(message.find(path) != std::string::npos);
      CHECK(message.find(h.phrase) != std::string::npos);
      CHECK(message.size() < 2000);
      CHECK(taken < static_cast<int64_t>(h.bytes.size() / 1024) + 64 * 1024);
      ++count;
    }
  }
  CHECK(count >= 60);
  CHECK_FALSE(fs::exists("/tmp/glia_was_here"));
  CHECK_THROWS_AS(read_weights(folder / "absent"), IoError);
  CHECK_THROWS_WITH_AS(read_weights(folder.path()), doctest::Contains("a folder"), DataError);
}

TEST_CASE("hostile files of weights: reading them calls nothing of the system but reading (R15)") {
  const TemporaryFolder folder;
  std::vector<fs::path> files;
  for (const auto& make : {hostile_pickles, hostile_torch_files, hostile_other_files}) {
    for (const Hostile& h : make()) {
      files.push_back(folder / std::to_string(files.size()));
      std::ofstream(files.back(), std::ios::binary) << h.bytes;
    }
  }
  CHECK(in_a_cage([&] {
          for (const fs::path& file : files) {
            try {
              const Weights weights = read_weights(file);
              for (const StoredTensor& t : weights.tensors) t.bytes(file.string());
            } catch (const DataError&) {
            }
          }
        }) == 0);
  CHECK(in_a_cage([] { [[maybe_unused]] const int s = static_cast<int>(syscall(SYS_socket, 1, 1, 0)); }) ==
        -1);  // the cage works
  CHECK(in_a_cage([&] { std::ofstream(folder / "new") << "x"; }) == -1);
}

TEST_CASE("hostile files of weights: every opcode, on every kind of stack (R15)") {
  // What the opcode finds before it, and the arguments that follow it.
  const std::string befores[] = {
      "", "N", "(", "(K\1K\2", "]", "}", ")", "ccollections\nOrderedDict\n)", "]q\0("s, text("os") + text("system")};
  const std::string afters[] = {"", "\0\0\0\0\0\0\0\0."s, "\1a.", "\xff\xff\xff\xff\xff\xff\xff\xff.", "os\nsystem\n.", "1\n."};
  CHECK(in_a_cage([&] {
          for (int opcode = 0; opcode < 256; ++opcode) {
            for (const std::string& before : befores) {
              for (const std::string& after : afters) {
                const std::string bytes = "\x80\2" + before + static_cast<char>(opcode) + after;
                try {
                  parse_weights(std::as_bytes(std::span(bytes)), "opcode");
                } catch (const DataError&) {
                }
              }
            }
          }
        }) == 0);
}

TEST_CASE("hostile files of weights: deflated members that grow") {
  const TemporaryFolder folder;
  const fs::path path = folder / "w.npz";
  write_npz(path, {{"a", Tensor::zeros({8'000'000})}});  // 32 MB of zeros in 32 KB
  CHECK_THROWS_WITH_AS(read_weights(path), doctest::Contains("exhaust memory"), DataError);
  write_npz(path, {{"a", Tensor::zeros({3'000'000})}});
  CHECK(read_weights(path).tensors.size() == 1);
}

TEST_CASE("a deflated array is decoded once, into the memory that it stays in, and checked") {
  const TemporaryFolder folder;
  const fs::path path = folder / "w.npz";
  Tensor big({6, 1 << 20});  // 24 MB, of which deflating leaves 17
  for (int64_t i = 0; i < big.size(); ++i) big.data<float>()[i] = static_cast<float>((i * 7919) % 10007) / 10007;
  write_npz(path, {{"big", big}, {"small", Tensor::full({3}, 2)}});
  {
    ::malloc_trim(0);  // memory that is kept for later would hide what is taken
    reset_peak();
    const int64_t before = status_kb("VmRSS");
    const Weights weights = read_weights(path);
    const Tensor got = weights.load(*weights.find("big"));
    const int64_t taken = status_kb("VmHWM") - before;
    CHECK(std::memcmp(got.raw(), big.raw(), big.bytes()) == 0);
    CHECK(taken < static_cast<int64_t>(big.bytes() / 1024) * 12 / 10 + 8 * 1024);
  }
  std::string content = read_file(path);
  const size_t crc = content.find("PK\x01\x02") + 16;
  for (const size_t at : {size_t{14}, crc}) content[at] = static_cast<char>(content[at] ^ 1);
  std::ofstream(path, std::ios::binary) << content;
  const Weights damaged = read_weights(path);
  CHECK(damaged.load(*damaged.find("small")).data<float>()[2] == 2);
  CHECK_THROWS_WITH_AS(damaged.load(*damaged.find("big")), doctest::Contains("\"big.npy\" has a wrong checksum"), DataError);
}

TEST_SUITE_END();
