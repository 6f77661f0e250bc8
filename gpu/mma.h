#pragma once
// Tensor cores, asynchronous copies into shared memory, ldmatrix: what sm_80 and later have. Under nvcc each is one PTX
// instruction; in the emulator the same fragments, lane by lane, from the layout tables of the PTX manual ("Matrix fragments
// for mma.m16n8k8 / m16n8k16"). With g = lane / 4 and t = lane % 4, a lane holds
//
//   c[0..3]  (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)   of the 16x8 accumulators, all types
//   tf32  a[0..3]  (g, t) (g+8, t) (g, t+4) (g+8, t+4) of 16x8;          b[0..1]  (t, g) (t+4, g) of 8x8
//   16 bit a[0..3] pairs at (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8) of 16x16;  b[0..1] pairs at (2t, g) (2t+8, g) of 16x8
//
// where a pair holds two neighbours along k, the first in the lower half. Accumulation is in float.
#include "gpu/gpu.h"

#if !GPU_EMULATED

namespace gpu::inline device_side {

__device__ __forceinline__ unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// Copies 16, 8 or 4 bytes from global to shared memory, both aligned to that; where !valid writes zeros and reads nothing. The
// bytes are there for this thread after its group was waited for, for others after a barrier as well.
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async8(void* to, const void* from, bool valid = true) {
  const int bytes = valid ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void cp_async4(void* to, const void* from, bool valid = true) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
// Closes the group of copies started since the last commit.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most N of this thread's latest groups are under way.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// Rounds to the 10 bits of mantissa that the tensor core reads, ties away from zero.
__device__ __forceinline__ unsigned to_tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
}

// Loads 8x8 matrices of 16-bit values from shared memory: lane i gives the address of row i%8 of matrix i/8 (16 bytes, aligned);
// matrix q arrives in r[q], with lane (g, t) holding the pair at (g, 2t); _trans transposes each.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(unsigned (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// c += a * b, one instruction.
__device__ __forceinline__ void mma_tf32_16x8x8(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_bf16_16x8x16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_fp16_16x8x16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// c[i][j] += a[i] * b[j]: one step along k for a warp's whole tile, in an order that keeps b's registers.
#define GPU_MMA_TILE(name, instruction)                                                                                     \
  template <int M, int N>                                                                                                   \
  __device__ __forceinline__ void name(float (&c)[M][N][4], const unsigned (&a)[M][4], const unsigned (&b)[N][2]) {         \
    GPU_UNROLL                                                                                                              \
    for (int i = 0; i < M; ++i) {                                                                                           \
      GPU_UNROLL                                                                                                            \
      for (int j = 0; j < N; ++j) instruction(c[i][j], a[i], b[j]);                                                         \
    }                                                                                                                       \
  }
GPU_MMA_TILE(mma_tile_tf32, mma_tf32_16x8x8)
GPU_MMA_TILE(mma_tile_bf16, mma_bf16_16x8x16)
GPU_MMA_TILE(mma_tile_fp16, mma_fp16_16x8x16)
#undef GPU_MMA_TILE

}  // namespace gpu::inline device_side

#else  // emulated: gpu/emulator/mma.cpp

namespace gpu::emulator {

void start_copy(void* to, const void* from, unsigned bytes, bool valid, Site site);
void commit_copies();
void wait_for_copies(unsigned pending, Site site);
void load_matrices(unsigned* registers, unsigned count, const void* row, bool transposed, Site site);
enum class MmaType { tf32, bf16, fp16 };
void multiply_tile(MmaType type, float* c, const unsigned* a, const unsigned* b, int m, int n, Site site);

}  // namespace gpu::emulator

namespace gpu::inline emulated_side {

using emulator::MmaType;
using emulator::Site;

inline void cp_async16(void* to, const void* from, bool valid = true, Site site = Site::here()) {
  emulator::start_copy(to, from, 16, valid, site);
}
inline void cp_async8(void* to, const void* from, bool valid = true, Site site = Site::here()) {
  emulator::start_copy(to, from, 8, valid, site);
}
inline void cp_async4(void* to, const void* from, bool valid = true, Site site = Site::here()) {
  emulator::start_copy(to, from, 4, valid, site);
}
inline void cp_async_commit() { emulator::commit_copies(); }
template <int N>
void cp_async_wait(Site site = Site::here()) {
  emulator::wait_for_copies(N, site);
}

inline unsigned to_tf32(float x) {
  const auto bits = __builtin_bit_cast(unsigned, x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
}

inline void ldmatrix_x4(unsigned (&r)[4], const void* row, Site site = Site::here()) {
  emulator::load_matrices(r, 4, row, false, site);
}
inline void ldmatrix_x4_trans(unsigned (&r)[4], const void* row, Site site = Site::here()) {
  emulator::load_matrices(r, 4, row, true, site);
}
inline void ldmatrix_x2(unsigned (&r)[2], const void* row, Site site = Site::here()) {
  emulator::load_matrices(r, 2, row, false, site);
}
inline void ldmatrix_x2_trans(unsigned (&r)[2], const void* row, Site site = Site::here()) {
  emulator::load_matrices(r, 2, row, true, site);
}

inline void mma_tf32_16x8x8(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], Site site = Site::here()) {
  emulator::multiply_tile(MmaType::tf32, c, a, b, 1, 1, site);
}
inline void mma_bf16_16x8x16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], Site site = Site::here()) {
  emulator::multiply_tile(MmaType::bf16, c, a, b, 1, 1, site);
}
inline void mma_fp16_16x8x16(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], Site site = Site::here()) {
  emulator::multiply_tile(MmaType::fp16, c, a, b, 1, 1, site);
}

// One meeting of the warp for the whole tile.
template <int M, int N>
void mma_tile_tf32(float (&c)[M][N][4], const unsigned (&a)[M][4], const unsigned (&b)[N][2], Site site = Site::here()) {
  emulator::multiply_tile(MmaType::tf32, &c[0][0][0], &a[0][0], &b[0][0], M, N, site);
}
template <int M, int N>
void mma_tile_bf16(float (&c)[M][N][4], const unsigned (&a)[M][4], const unsigned (&b)[N][2], Site site = Site::here()) {
  emulator::multiply_tile(MmaType::bf16, &c[0][0][0], &a[0][0], &b[0][0], M, N, site);
}
template <int M, int N>
void mma_tile_fp16(float (&c)[M][N][4], const unsigned (&a)[M][4], const unsigned (&b)[N][2], Site site = Site::here()) {
  emulator::multiply_tile(MmaType::fp16, &c[0][0][0], &a[0][0], &b[0][0], M, N, site);
}

}  // namespace gpu::inline emulated_side

#endif
