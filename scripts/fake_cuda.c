/* A stand-in for NVIDIA's driver library on a machine without a GPU, for scripts/check_ptx.sh.
 *
 * It answers what the program asks of a driver: one device of the compute capability in FAKE_CUDA_SM (90 by default), whose memory is the host's.
 * Copies copy, launches do nothing, times are constant. So a program runs its whole CUDA path, every kernel is compiled to PTX, and what it
 * computes means nothing. The texts of the kernels are written to the folder FAKE_CUDA_PTX. The signatures are those of the public driver API. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int CUresult, CUdevice;
typedef unsigned long long CUdeviceptr;
typedef void *Handle;
#define OK 0
#define API __attribute__((visibility("default")))

static int sm(void) {
  const char *text = getenv("FAKE_CUDA_SM");
  return text ? atoi(text) : 90;
}

/* Any address will do as a handle. */
static Handle new_handle(void) { return malloc(16); }

/* Device memory. Its alignment is CUDA's. */
static void *take(size_t bytes) { return aligned_alloc(512, (bytes + 511) / 512 * 512 + 512); }

API CUresult cuInit(unsigned flags) { (void)flags; return OK; }
API CUresult cuDriverGetVersion(int *version) { *version = 13000; return OK; }
API CUresult cuDeviceGetCount(int *count) { *count = 1; return OK; }
API CUresult cuDeviceGet(CUdevice *device, int ordinal) { *device = ordinal; return OK; }
API CUresult cuDeviceGetName(char *name, int len, CUdevice device) { (void)device; snprintf(name, len, "no GPU (sm_%d)", sm()); return OK; }
API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { (void)device; *bytes = 80ull << 30; return OK; }
API CUresult cuDeviceGetUuid_v2(char *uuid, CUdevice device) { (void)device; memset(uuid, 1, 16); return OK; }
API CUresult cuDeviceGetUuid(char *uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }
API CUresult cuDeviceGetPCIBusId(char *id, int len, CUdevice device) { (void)device; snprintf(id, len, "0000:00:00.0"); return OK; }
API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  (void)device;
  switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;     /* threads of a block; its sides x and y */
    case 4: *value = 64; break;                       /* z */
    case 5: *value = 2147483647; break;               /* sides of a grid */
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;                    /* shared memory of a block */
    case 10: *value = 32; break;                      /* threads of a warp */
    case 16: *value = 132; break;                     /* multiprocessors */
    case 75: *value = sm() / 10; break;               /* compute capability */
    case 76: *value = sm() % 10; break;
    case 81: *value = 233472; break;                  /* shared memory of a multiprocessor */
    case 97: *value = 166912; break;                  /* shared memory of a block that asks for more */
    case 41: case 115: *value = 1; break;             /* unified addresses, memory pools */
    default: *value = 0;
  }
  return OK;
}
API CUresult cuDevicePrimaryCtxRetain(Handle *context, CUdevice device) { (void)device; *context = new_handle(); return OK; }
API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { (void)device; return OK; }
API CUresult cuCtxSetCurrent(Handle context) { (void)context; return OK; }
API CUresult cuCtxGetCurrent(Handle *context) { *context = new_handle(); return OK; }
API CUresult cuCtxSynchronize(void) { return OK; }
API CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) { *least = *greatest = 0; return OK; }

API CUresult cuMemAlloc_v2(CUdeviceptr *at, size_t bytes) { *at = (CUdeviceptr)(uintptr_t)take(bytes); return *at ? OK : 2; }
API CUresult cuMemAllocAsync(CUdeviceptr *at, size_t bytes, Handle stream) { (void)stream; return cuMemAlloc_v2(at, bytes); }
API CUresult cuMemFree_v2(CUdeviceptr at) { free((void *)(uintptr_t)at); return OK; }
API CUresult cuMemFreeAsync(CUdeviceptr at, Handle stream) { (void)stream; return cuMemFree_v2(at); }
API CUresult cuMemAllocHost_v2(void **at, size_t bytes) { *at = take(bytes); return *at ? OK : 2; }
API CUresult cuMemHostAlloc(void **at, size_t bytes, unsigned flags) { (void)flags; return cuMemAllocHost_v2(at, bytes); }
API CUresult cuMemFreeHost(void *at) { free(at); return OK; }
API CUresult cuMemGetInfo_v2(size_t *left, size_t *all) { *left = *all = 80ull << 30; return OK; }
API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, Handle stream) {
  (void)stream; memcpy((void *)(uintptr_t)to, from, bytes); return OK;
}
API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, Handle stream) {
  (void)stream; memcpy(to, (void *)(uintptr_t)from, bytes); return OK;
}
API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, Handle stream) {
  (void)stream; memmove((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes); return OK;
}
API CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, Handle stream) {
  (void)stream; memset((void *)(uintptr_t)to, value, bytes); return OK;
}

/* One side of a copy of a rectangle. */
struct Side { size_t x, y; int kind; void *host; CUdeviceptr device; Handle array; size_t pitch; };
struct Rectangle { struct Side from, to; size_t width, height; };
static char *start(const struct Side *side) {
  char *base = side->kind == 1 ? side->host : (char *)(uintptr_t)side->device;
  return base + side->y * side->pitch + side->x;
}
API CUresult cuMemcpy2DAsync_v2(const struct Rectangle *copy, Handle stream) {
  (void)stream;
  for (size_t row = 0; row < copy->height; row++)
    memcpy(start(&copy->to) + row * copy->to.pitch, start(&copy->from) + row * copy->from.pitch, copy->width);
  return OK;
}

API CUresult cuStreamCreate(Handle *stream, unsigned flags) { (void)flags; *stream = new_handle(); return OK; }
API CUresult cuStreamCreateWithPriority(Handle *stream, unsigned flags, int priority) { (void)priority; return cuStreamCreate(stream, flags); }
API CUresult cuStreamDestroy_v2(Handle stream) { (void)stream; return OK; }
API CUresult cuStreamSynchronize(Handle stream) { (void)stream; return OK; }
API CUresult cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { (void)stream; (void)event; (void)flags; return OK; }
API CUresult cuStreamIsCapturing(Handle stream, int *status) { (void)stream; *status = 0; return OK; }
API CUresult cuEventCreate(Handle *event, unsigned flags) { (void)flags; *event = new_handle(); return OK; }
API CUresult cuEventDestroy_v2(Handle event) { (void)event; return OK; }
API CUresult cuEventRecord(Handle event, Handle stream) { (void)event; (void)stream; return OK; }
API CUresult cuEventQuery(Handle event) { (void)event; return OK; }
API CUresult cuEventSynchronize(Handle event) { (void)event; return OK; }
API CUresult cuEventElapsedTime(float *ms, Handle from, Handle to) { (void)from; (void)to; *ms = 100.0f; return OK; }
API CUresult cuEventElapsedTime_v2(float *ms, Handle from, Handle to) { return cuEventElapsedTime(ms, from, to); }

API CUresult cuModuleLoadData(Handle *module, const void *image) {
  static int count;
  const char *folder = getenv("FAKE_CUDA_PTX"), *entry = strstr(image, ".entry ");
  if (folder && entry) {
    char path[4096];
    int length = (int)strcspn(entry + 7, "( \n");
    snprintf(path, sizeof path, "%s/%.*s.%d.%d.ptx", folder, length > 100 ? 100 : length, entry + 7, (int)getpid(), __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED));
    FILE *file = fopen(path, "w");
    if (!file) return 999;
    fputs(image, file);
    if (fclose(file)) return 999;
  }
  *module = new_handle();
  return OK;
}
API CUresult cuModuleUnload(Handle module) { (void)module; return OK; }
API CUresult cuModuleGetFunction(Handle *function, Handle module, const char *name) { (void)module; (void)name; *function = new_handle(); return OK; }
API CUresult cuFuncSetAttribute(Handle function, int attribute, int value) { (void)function; (void)attribute; (void)value; return OK; }
API CUresult cuFuncGetAttribute(int *value, int attribute, Handle function) { (void)attribute; (void)function; *value = 0; return OK; }
API CUresult cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                            Handle stream, void **params, void **extra) {
  (void)function; (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shared; (void)stream; (void)params; (void)extra;
  return OK;
}
API CUresult cuGetErrorName(CUresult error, const char **text) { (void)error; *text = "an error of the stand-in"; return OK; }
API CUresult cuGetErrorString(CUresult error, const char **text) { return cuGetErrorName(error, text); }
