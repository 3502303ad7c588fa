/* The C interface from C: opens the checkpoint that the first argument names, reads every tensor whole and one row of each into strided
 * memory, and sees that misuse is told as a value. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tessera/c/tessera.h"

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s does not hold: %s\n", __FILE__, __LINE__, #condition, error.message); \
      return 1; \
    } \
  } while (0)

static int read_tensor(const tessera_checkpoint* checkpoint, size_t index) {
  tessera_error error = {0};
  tessera_tensor tensor;
  CHECK(tessera_describe(checkpoint, index, &tensor, &error) == TESSERA_OK);
  size_t bytes = (size_t)tensor.element_bytes;
  for (int d = 0; d < tensor.dims; ++d) bytes *= (size_t)tensor.sizes[d];
  char* all = malloc(bytes + 1);
  CHECK(tessera_read(checkpoint, index, NULL, NULL, NULL, all, bytes, &error) == TESSERA_OK);
  if (bytes > 0) CHECK(tessera_read(checkpoint, index, NULL, NULL, NULL, all, bytes - 1, &error) == TESSERA_INVALID_ARGUMENT);
  if (tensor.dims == 2 && bytes > 0) {
    /* The last row, every element with a gap after it. */
    int64_t offsets[2] = {tensor.sizes[0] - 1, 0}, sizes[2] = {1, tensor.sizes[1]}, strides[2] = {0, 2};
    size_t each = (size_t)tensor.element_bytes, columns = (size_t)tensor.sizes[1];
    char* row = calloc(2 * columns, each);
    CHECK(tessera_read(checkpoint, index, offsets, sizes, strides, row, 2 * columns * each, &error) == TESSERA_OK);
    for (size_t c = 0; c < columns; ++c) CHECK(memcmp(row + 2 * c * each, all + bytes - (columns - c) * each, each) == 0);
    free(row);
    offsets[0] = tensor.sizes[0];
    CHECK(tessera_read(checkpoint, index, offsets, sizes, NULL, all, bytes, &error) == TESSERA_INVALID_ARGUMENT);
  }
  free(all);
  return 0;
}

int main(int argc, char** argv) {
  tessera_error error = {0};
  tessera_checkpoint* checkpoint = NULL;
  if (argc != 2) return 2;
  CHECK(tessera_open(argv[1], &checkpoint, &error) == TESSERA_OK);
  CHECK(tessera_count(checkpoint) > 0);
  int tensors = 0;
  for (size_t i = 0; i < tessera_count(checkpoint); ++i) {
    size_t length = 0;
    const char* key = tessera_key(checkpoint, i, &length);
    CHECK(key && tessera_find(checkpoint, key, length) == i);
    if (tessera_is_tensor(checkpoint, i)) {
      if (read_tensor(checkpoint, i)) return 1;
      ++tensors;
    } else {
      char text[64];
      CHECK(tessera_object_text(checkpoint, i, text, sizeof text, &error) == TESSERA_OK);
    }
  }
  CHECK(tensors > 0);
  CHECK(tessera_find(checkpoint, "no such key", 11) == tessera_count(checkpoint));
  CHECK(tessera_key(checkpoint, tessera_count(checkpoint), NULL) == NULL);
  CHECK(tessera_read(checkpoint, 1000000, NULL, NULL, NULL, NULL, 0, &error) == TESSERA_INVALID_ARGUMENT);
  tessera_close(checkpoint);
  tessera_close(NULL);
  CHECK(tessera_open("/nowhere/at/all", &checkpoint, &error) == TESSERA_NOT_FOUND);
  CHECK(checkpoint == NULL && error.code == TESSERA_NOT_FOUND && error.message[0]);
  CHECK(tessera_open(NULL, &checkpoint, NULL) == TESSERA_INVALID_ARGUMENT);
  printf("%d tensors\n", tensors);
  return 0;
}
