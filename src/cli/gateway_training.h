// What `gateway train` and `gateway bench` read: bodies (a JSON object with "body" per line) and
// conversations (a JSON array of arrays of exchanges), as tools/gateway_corpus/build writes them.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/model/trainer.h"

namespace ravine::cli {

struct TrainingSet {
  std::vector<gateway::TrainingMessage> messages;  // conversations first: what comes last weighs most
  Bytes dictionary;
};

// Errors: not_found, invalid_argument with the file and line.
Result<TrainingSet> read_training_set(const std::vector<std::string>& paths, std::size_t dictionary_bytes);

// The "body" of each line, in order.
Result<std::vector<Bytes>> read_bodies(const std::string& path);

}  // namespace ravine::cli
