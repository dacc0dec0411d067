#include "gateway/coder/shipped.h"

#include <openssl/sha.h>

#include <algorithm>

#include "base/ensure.h"

// The assembler puts the file into the read-only data.
__asm__(
    ".pushsection .rodata\n"
    ".balign 16\n"
    ".globl ravine_shipped_model\n"
    ".hidden ravine_shipped_model\n"
    "ravine_shipped_model:\n"
    ".incbin \"" RAVINE_MODEL_FILE
    "\"\n"
    ".globl ravine_shipped_model_end\n"
    ".hidden ravine_shipped_model_end\n"
    "ravine_shipped_model_end:\n"
    ".byte 0\n"
    ".popsection\n");
extern "C" {
extern const std::uint8_t ravine_shipped_model[];
extern const std::uint8_t ravine_shipped_model_end[];
}

namespace ravine::gateway::coder {

ByteView shipped_model_file() {
  return {ravine_shipped_model, static_cast<std::size_t>(ravine_shipped_model_end - ravine_shipped_model)};
}

Result<Model> load_model(ByteView file) {
  auto prior = Prior::decode(file);
  if (!prior) return prior.error();
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> hash;
  SHA256(file.data(), file.size(), hash.data());
  Model model{std::make_shared<const Prior>(std::move(prior).value()), {}};
  std::copy_n(hash.begin(), model.id.size(), model.id.begin());
  return model;
}

const Model& shipped_model() {
  static const Model model = [] {
    auto loaded = load_model(shipped_model_file());
    ensure(loaded.ok());  // a test loads it
    return std::move(loaded).value();
  }();
  return model;
}

}  // namespace ravine::gateway::coder
