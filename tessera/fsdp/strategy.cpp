#include "tessera/fsdp/strategy.h"

namespace tessera {

WrapOptions WrapOverrides::over(WrapOptions base) const {
  base.strategy = strategy.value_or(base.strategy);
  base.alignment_bytes = alignment_bytes.value_or(base.alignment_bytes);
  base.min_numel = min_numel.value_or(base.min_numel);
  return base;
}

}  // namespace tessera
