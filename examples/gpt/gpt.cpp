#include "examples/gpt/gpt.h"

#include <ATen/Functions.h>

using torch::nn::Embedding;
using torch::nn::LayerNorm;
using torch::nn::LayerNormOptions;
using torch::nn::Linear;
using torch::nn::LinearOptions;

constexpr int64_t head_width = 32;

BlockImpl::BlockImpl(const GptConfig& config)
    : heads(config.width / head_width),
      norm1(register_module("norm1", LayerNorm(LayerNormOptions({config.width})))),
      norm2(register_module("norm2", LayerNorm(LayerNormOptions({config.width})))),
      qkv(register_module("qkv", Linear(LinearOptions(config.width, 3 * config.width).bias(false)))),
      out(register_module("out", Linear(config.width, config.width))),
      up(register_module("up", Linear(config.width, 4 * config.width))),
      down(register_module("down", Linear(4 * config.width, config.width))) {}

at::Tensor BlockImpl::forward(const at::Tensor& x) {
  const auto split = [&](const at::Tensor& t) { return t.view({x.size(0), x.size(1), heads, head_width}).transpose(1, 2); };
  const std::vector<at::Tensor> parts = qkv(norm1(x)).chunk(3, -1);
  const at::Tensor mixed = at::scaled_dot_product_attention(split(parts[0]), split(parts[1]), split(parts[2]), {}, 0.0, /*is_causal=*/true);
  const at::Tensor attended = x + out(mixed.transpose(1, 2).reshape(x.sizes()));
  return attended + down(at::gelu(up(norm2(attended))));
}

GptImpl::GptImpl(const GptConfig& config)
    : tok(register_module("tok", Embedding(config.vocab, config.width))),
      pos(register_module("pos", Embedding(config.seq, config.width))),
      blocks(register_module("blocks", torch::nn::ModuleList())),
      norm(nullptr),
      head(nullptr) {
  for (int64_t i = 0; i < config.layers; ++i) {
    blocks_.push_back(tessera::wrap(Block(config)));
    blocks->push_back(blocks_.back());
  }
  norm = register_module("norm", LayerNorm(LayerNormOptions({config.width})));
  head = register_module("head", Linear(LinearOptions(config.width, config.vocab).bias(false)));
}

at::Tensor GptImpl::forward(const at::Tensor& tokens) {
  at::Tensor x = tok(tokens) + pos(at::arange(tokens.size(1), tokens.options()));
  for (auto& block : blocks_) x = block(x);
  return head(norm(x));
}

at::Tensor cross_entropy_sum(const at::Tensor& logits, const at::Tensor& targets) {
  return at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten(), {}, at::Reduction::Sum);
}

bool decays(std::string_view parameter) { return parameter.ends_with("weight") && parameter.find("norm") == std::string_view::npos; }
