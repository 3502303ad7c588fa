/* tessera/c/tessera.h: checkpoints from C and from whatever can call C.
 * A checkpoint is a torch.distributed.checkpoint directory, safetensors (a file or a directory of files) or a torch.save file.
 * Errors   Functions that can fail return 0, or one of tessera_code, and fill `error` if it is not null. Nothing is thrown, nothing aborts.
 * Memory   Strings that a function hands out belong to the checkpoint and live until tessera_close.
 * Threads  One checkpoint may be used from many threads at once, until tessera_close.
 */
#ifndef TESSERA_C_TESSERA_H
#define TESSERA_C_TESSERA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TESSERA_API __attribute__((visibility("default")))
#define TESSERA_MOST_DIMS 64

/* These numbers and those of tessera_dtype never change; new ones are added at the end. */
enum tessera_code {
  TESSERA_OK = 0,
  TESSERA_INVALID_ARGUMENT = 1, /* the caller asked for what cannot be */
  TESSERA_NOT_FOUND = 2,        /* a file or key that is not there */
  TESSERA_EXISTS = 3,
  TESSERA_MISMATCH = 4,
  TESSERA_CORRUPT = 5,     /* the bytes break the format's rules */
  TESSERA_UNSUPPORTED = 6, /* sound, but not something that is read here */
  TESSERA_LIMIT = 7,       /* larger than a limit allows */
  TESSERA_IO = 8,          /* the operating system said no */
  TESSERA_NO_SPACE = 9,
  TESSERA_NO_MEMORY = 10,
  TESSERA_TIMEOUT = 11,
  TESSERA_PEER_LOST = 12,
  TESSERA_ABORTED = 13,
  TESSERA_INTERNAL = 14
};

enum tessera_dtype {
  TESSERA_FLOAT64,
  TESSERA_FLOAT32,
  TESSERA_FLOAT16,
  TESSERA_BFLOAT16,
  TESSERA_INT64,
  TESSERA_INT32,
  TESSERA_INT16,
  TESSERA_INT8,
  TESSERA_UINT8,
  TESSERA_BOOL,
  TESSERA_COMPLEX64,
  TESSERA_COMPLEX128,
  TESSERA_COMPLEX32,
  TESSERA_UINT16,
  TESSERA_UINT32,
  TESSERA_UINT64,
  TESSERA_FLOAT8_E4M3FN,
  TESSERA_FLOAT8_E5M2,
  TESSERA_FLOAT8_E4M3FNUZ,
  TESSERA_FLOAT8_E5M2FNUZ,
  TESSERA_FLOAT8_E8M0FNU,
  TESSERA_FLOAT4_E2M1FN_X2 /* two values in a byte; sizes count bytes */
};

typedef struct tessera_error {
  int code;
  int64_t offset_bytes; /* in the file; -1 where there is none */
  char file[256];       /* empty where there is none; cut where it is longer, as all three */
  char message[512];
  char hint[256]; /* what to do next; may be empty */
} tessera_error;

typedef struct tessera_checkpoint tessera_checkpoint;

typedef struct tessera_tensor {
  int dtype;
  const char* dtype_name;   /* "float32" */
  int64_t element_bytes;
  int dims;
  int64_t sizes[TESSERA_MOST_DIMS];
} tessera_tensor;

/* "0.1.0". */
TESSERA_API const char* tessera_version(void);

/* Reads the metadata only. *checkpoint is null after a failure. */
TESSERA_API int tessera_open(const char* path, tessera_checkpoint** checkpoint, tessera_error* error);
/* Null is allowed. */
TESSERA_API void tessera_close(tessera_checkpoint* checkpoint);

/* How many keys there are; they are numbered from 0, in ascending order of their bytes. */
TESSERA_API size_t tessera_count(const tessera_checkpoint* checkpoint);
/* A key and its length, which counts where a key holds a NUL; null for an index past the end. */
TESSERA_API const char* tessera_key(const tessera_checkpoint* checkpoint, size_t index, size_t* length_bytes);
/* The index of a key, or tessera_count() where there is none. */
TESSERA_API size_t tessera_find(const tessera_checkpoint* checkpoint, const char* key, size_t length_bytes);
/* 1 for a tensor, 0 for an object or an index past the end. */
TESSERA_API int tessera_is_tensor(const tessera_checkpoint* checkpoint, size_t index);

TESSERA_API int tessera_describe(const tessera_checkpoint* checkpoint, size_t index, tessera_tensor* tensor, tessera_error* error);

/* Reads the box [offsets, offsets + sizes) of a tensor into memory with the given strides, or row-major where `strides` is null; all of
 * the tensor where `offsets` and `sizes` are null. Sizes, offsets and strides count elements; strides are not negative. `into` has room
 * for the box: `into_bytes` is checked. Elements have the tensor's dtype. After a failure the content of `into` is undefined. */
TESSERA_API int tessera_read(const tessera_checkpoint* checkpoint, size_t index, const int64_t* offsets, const int64_t* sizes,
                             const int64_t* strides, void* into, size_t into_bytes, tessera_error* error);

/* A short text of an object for people, ended by a NUL and cut to `text_bytes`. */
TESSERA_API int tessera_object_text(const tessera_checkpoint* checkpoint, size_t index, char* text, size_t text_bytes,
                                    tessera_error* error);

#ifdef __cplusplus
}
#endif

#endif
