// Passphrases: from a file, the environment or the terminal, never from the command line, where others could
// read them.
#pragma once

#include <string>

#include "base/result.h"

namespace ravine::cli {

struct PassphraseSource {
  std::string file;  // --passphrase-file; "-" is standard input
  bool ask = false;  // --passphrase: RAVINE_PASSPHRASE, or the terminal
};

// Empty when none was asked for. `confirm` asks twice at a terminal. Errors: refused (a file that others can
// read), invalid_argument (empty, not equal, no terminal).
Result<std::string> read_passphrase(const PassphraseSource& source, std::string_view prompt, bool confirm);

}  // namespace ravine::cli
