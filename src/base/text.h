// Text of protocols: ASCII case, and tokens as HTTP defines them. Bytes outside ASCII stay as they are.
#pragma once

#include <string>
#include <string_view>

namespace ravine {

constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
std::string to_lower(std::string_view text);
bool equals_ignoring_case(std::string_view a, std::string_view b);

bool is_token(std::string_view text);  // RFC 9110 §5.6.2

}  // namespace ravine
