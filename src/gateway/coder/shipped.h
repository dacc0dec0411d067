// The trained model inside the program, and model files of users. Pure: the bytes are part of the program.
#pragma once

#include "gateway/coder/coder.h"

namespace ravine::gateway::coder {

struct Model {
  std::shared_ptr<const Prior> prior;
  CoderId id{};  // the first bytes of the SHA-256 of the file
};

// The file as it is in data/gateway/model.bin.
ByteView shipped_model_file();
// Loads it at the first call, in some 100 ms; all callers share one prior. Any thread.
const Model& shipped_model();
// Errors: invalid_argument for what `ravine gateway train` did not write.
Result<Model> load_model(ByteView file);

}  // namespace ravine::gateway::coder
