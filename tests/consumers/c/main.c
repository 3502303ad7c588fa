/* The same from C. */
#include <stdio.h>
#include <tessera/c/tessera.h>

int main(int argc, char** argv) {
  tessera_checkpoint* checkpoint = NULL;
  tessera_error error;
  if (argc != 2 || tessera_open(argv[1], &checkpoint, &error)) return 1;
  for (size_t i = 0; i < tessera_count(checkpoint); ++i) printf("%s\n", tessera_key(checkpoint, i, NULL));
  tessera_close(checkpoint);
  return 0;
}
