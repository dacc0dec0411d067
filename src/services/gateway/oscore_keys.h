// OscoreKeys: one OSCORE context (RFC 8613) out of a file, with its sequence numbers on disk. The file is
// JSON as aiocoap writes its settings.json, so that both ends may share one: secret_hex, salt_hex,
// sender-id_hex, recipient-id_hex, id-context_hex; each may end in _ascii instead. It must be readable by its
// owner alone.
#pragma once

#include <memory>
#include <string>

#include "gateway/security/oscore.h"
#include "host/file.h"
#include "services/gateway/store.h"

namespace ravine::services {

// Errors: invalid_argument, naming the key that is missing or wrong; `name` is the file's.
Result<gateway::security::OscoreParameters> parse_oscore_file(std::string_view text, std::string_view name);

class OscoreKeys {
 public:
  // State goes to `directory`, under a name made of the keys: one secret under two names would use a number
  // twice. Errors: not_found, refused (others can read it), invalid_argument, already_exists (another process
  // uses these keys), io.
  static Result<std::unique_ptr<OscoreKeys>> open(const std::string& file, const std::string& directory);

  gateway::security::OscoreContext& context() { return *context_; }
  const gateway::security::OscoreContext& context() const { return *context_; }
  const std::string& file() const { return file_; }

 private:
  OscoreKeys(std::string file, host::FileLock lock, std::string state)
      : file_(std::move(file)), lock_(std::move(lock)), store_(std::move(state)) {}
  std::string file_;
  host::FileLock lock_;
  FileSequenceStore store_;
  std::optional<gateway::security::OscoreContext> context_;
};

}  // namespace ravine::services
