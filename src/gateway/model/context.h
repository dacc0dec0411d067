// ContextTracker: reads a message byte by byte and says, before each byte, what the model may know: how the
// last bytes run, where in the JSON the next byte stands, what the key, the event type and the route are.
// Pure function of the bytes since begin().
#pragma once

#include <array>
#include <cstdint>

namespace ravine::gateway {

inline constexpr std::size_t kContexts = 24;

enum class TextPhase : std::uint8_t { start_line, headers, body };

class ContextTracker {
 public:
  // `phase`: where the text begins; a bare body starts in body. `hint`: hash of what came before in the
  // exchange (the request's route when a response begins), 0 for none.
  void begin(TextPhase phase, std::uint32_t hint);
  void update(std::uint8_t byte);

  // Hashes of the contexts of the next byte. Index 0 is order 0.
  void hashes(std::array<std::uint32_t, kContexts>& out) const;

  // 0–7: what the next byte belongs to.
  enum Place : std::uint8_t { structure, key, text_value, number_value, target, header, raw, after_end };
  Place place() const;
  bool json_complete() const { return phase_ == TextPhase::body && saw_json_ && depth_ == 0 && !in_string_; }
  std::uint32_t route() const { return route_; }
  std::uint32_t key_hash() const { return value_key(); }
  std::uint32_t token_length() const { return token_length_; }
  std::uint32_t alphabet() const { return alphabet_; }  // 0 … 31
  // Base64, hexadecimal and the like: what the last bytes were says nothing of the next one.
  bool random_token() const { return token_length_ >= 6 && 5 * turns_ >= 2 * token_length_; }
  std::uint32_t last_byte() const { return static_cast<std::uint32_t>(history_ & 0xff); }
  std::uint64_t history() const { return history_; }
  std::uint32_t token_hash() const { return token_; }
  std::uint32_t position() const { return position_; }
  std::uint32_t last_key() const { return last_key_; }
  bool at_value_start() const { return expects_value_ && position_ == 0; }
  std::uint32_t parent_key() const { return depth_ > 0 ? levels_[depth_].key : 0; }

 private:
  static constexpr unsigned kMaxDepth = 31;
  struct Level {
    std::uint32_t key = 0;                   // hash of the key path that led here
    std::uint32_t members = 0;               // of the keys seen so far, in any order
    std::uint32_t type = 0;                  // hash of the value of "type" seen here or above
    std::uint32_t name = 0, older_name = 0;  // the keys before it, which count again after it
    bool array = false;
  };
  void update_start_line(std::uint8_t byte);
  void update_body(std::uint8_t byte);
  void update_string(std::uint8_t byte);
  void update_key(std::uint8_t byte);
  void update_words(std::uint8_t byte);
  void open(bool array);
  void close();
  std::uint32_t value_key() const;

  TextPhase phase_ = TextPhase::body;
  std::uint64_t history_ = 0;  // last 8 bytes, newest lowest
  std::array<Level, kMaxDepth + 1> levels_{};
  unsigned depth_ = 0, hidden_depth_ = 0;
  bool in_string_ = false, escaped_ = false, expects_value_ = false, saw_json_ = false;
  bool line_start_ = true;
  std::uint32_t last_key_ = 0, older_key_ = 0, prefix_ = 0, position_ = 0;
  std::uint32_t route_ = 0, segment_ = 0, hint_ = 0;
  bool segment_is_identifier_ = false;
  std::uint32_t key_ = 0;  // hash of the key that is being read, of its kind when it is an identifier
  bool key_known_ = false;
  std::uint32_t last_value_ = 0;
  std::uint32_t word_ = 0, last_word_ = 0;
  std::uint32_t token_ = 0, token_length_ = 0, alphabet_ = 0, shape_ = 0;
  std::uint32_t turns_ = 0;  // changes between digits, lower and upper case within the token
};

// Mixes two words into one hash.
constexpr std::uint32_t mix_hash(std::uint32_t a, std::uint32_t b) {
  std::uint32_t h = a * 0x9E3779B1u + b * 0x85EBCA6Bu + 0x165667B1u;
  h ^= h >> 16;
  h *= 0x7feb352du;
  h ^= h >> 15;
  h *= 0x846ca68bu;
  return h ^ (h >> 16);
}

}  // namespace ravine::gateway
