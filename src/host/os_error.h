// errno as our Error. For the .cpp files of host alone.
#pragma once

#include <string_view>

#include "base/result.h"

namespace ravine::host {

// "what: the system's words". Kind by default from the errno: not_found, already_exists, refused
// (permission), io.
Error os_error(int error, std::string_view what);

}  // namespace ravine::host
