// examples/gpt/gpt.h: a small GPT: token and position embedding, pre-norm attention without qkv bias, MLP. Bytes are its tokens.
// It is written as any LibTorch model, but for wrap() around each block: inside tessera::fsdp a block is then a unit.
#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <vector>

#include "tessera/fsdp/wrap.h"

struct GptConfig {
  int64_t layers = 4;
  int64_t width = 128;  // a multiple of 32, the width of a head
  int64_t seq = 64;     // tokens that the model sees at once
  int64_t vocab = 256;
};

struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(const GptConfig& config);
  at::Tensor forward(const at::Tensor& x);

  int64_t heads;
  torch::nn::LayerNorm norm1, norm2;
  torch::nn::Linear qkv, out, up, down;
};
TORCH_MODULE(Block);

struct GptImpl : torch::nn::Module {
  explicit GptImpl(const GptConfig& config);
  // [batch, seq] of token numbers → [batch, seq, vocab] of logits.
  at::Tensor forward(const at::Tensor& tokens);

  torch::nn::Embedding tok, pos;
  torch::nn::ModuleList blocks;
  torch::nn::LayerNorm norm;
  torch::nn::Linear head;

 private:
  std::vector<tessera::Wrapped<BlockImpl>> blocks_;  // the same as in `blocks`, by type
};
TORCH_MODULE(Gpt);

// The sum of the tokens' cross entropies: logits [batch, seq, vocab], targets [batch, seq].
at::Tensor cross_entropy_sum(const at::Tensor& logits, const at::Tensor& targets);

// Weight decay is for matrices; biases and norms go without.
bool decays(std::string_view parameter);
