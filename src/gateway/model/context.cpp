#include "gateway/model/context.h"

namespace ravine::gateway {
namespace {

constexpr std::uint32_t hash_text(const char* text) {
  std::uint32_t h = 0;
  for (; *text != 0; ++text) h = mix_hash(h, static_cast<std::uint8_t>(*text));
  return h;
}
constexpr std::uint32_t kTypeKey = hash_text("type");

// Character classes for shapes and alphabets: digit, lower, upper, high, space, symbol of base64, other.
constexpr unsigned class_of(std::uint8_t c) {
  if (c >= '0' && c <= '9') return 1;
  if (c >= 'a' && c <= 'z') return 2;
  if (c >= 'A' && c <= 'Z') return 3;
  if (c >= 128) return 4;
  if (c == ' ') return 5;
  if (c == '_' || c == '-' || c == '+' || c == '/') return 6;
  return 7;
}

}  // namespace

void ContextTracker::begin(TextPhase phase, std::uint32_t hint) {
  *this = ContextTracker{};
  phase_ = phase;
  hint_ = hint;
  route_ = hint;
  expects_value_ = true;
}

ContextTracker::Place ContextTracker::place() const {
  if (phase_ == TextPhase::start_line) return target;
  if (phase_ == TextPhase::headers) return header;
  if (json_complete()) return after_end;
  if (!saw_json_) return raw;
  if (in_string_) return expects_value_ ? text_value : key;
  return expects_value_ && position_ > 0 ? number_value : structure;
}

std::uint32_t ContextTracker::value_key() const {
  if (phase_ == TextPhase::start_line) return mix_hash(route_, 0x51);
  const Level& level = levels_[depth_];
  if (level.array) return mix_hash(level.key, 0x61);
  return expects_value_ ? mix_hash(last_key_, level.key) : mix_hash(0x1234567u, level.members);
}

void ContextTracker::open(bool array) {
  if (depth_ == kMaxDepth) {
    ++hidden_depth_;
    return;
  }
  const Level parent = levels_[depth_];
  const std::uint32_t path = parent.array ? mix_hash(parent.key, 3) : mix_hash(last_key_, parent.key);
  ++depth_;
  levels_[depth_] = {saw_json_ ? path : mix_hash(route_, 9), 0, parent.type, last_key_, older_key_, array};
  saw_json_ = true;
  expects_value_ = array;
  prefix_ = 0;
  position_ = 0;
}

void ContextTracker::close() {
  if (hidden_depth_ > 0) {
    --hidden_depth_;
    return;
  }
  if (depth_ > 0) {
    last_key_ = levels_[depth_].name;
    older_key_ = levels_[depth_].older_name;
    --depth_;
  }
  expects_value_ = true;
  prefix_ = mix_hash(prefix_, 0x7d);
  position_ = 1;
}

// Keys that are identifiers (users, rooms, devices, key names) count as one key of their kind, lest what is
// below them be new each time.
void ContextTracker::update_key(std::uint8_t byte) {
  if (key_known_) return;
  const auto before = static_cast<std::uint8_t>(history_ >> 8);
  const bool upper = byte >= 'A' && byte <= 'Z';
  const bool mark = byte == '!' || byte == '@' || byte == '$' || byte == '#' || byte == ':' || byte == '%' ||
                    byte == '/' || (position_ == 0 && byte >= '0' && byte <= '9');
  const bool device = upper && position_ == 1 && before >= 'A' && before <= 'Z';
  key_known_ = mark || device;
  key_ = device ? 0x2b : mark ? mix_hash(key_, 0x2a) : mix_hash(key_, byte);
}

void ContextTracker::update_string(std::uint8_t byte) {
  if (escaped_) {
    escaped_ = false;
  } else if (byte == '\\') {
    escaped_ = true;
  } else if (byte == '"') {
    in_string_ = false;
    Level& level = levels_[depth_];
    if (!expects_value_) {
      older_key_ = last_key_;
      last_key_ = key_;
    } else if (!level.array && last_key_ == kTypeKey) {
      level.type = prefix_;
    }
    return;
  }
  if (!expects_value_) update_key(byte);
  prefix_ = mix_hash(prefix_, byte);
  ++position_;
}

void ContextTracker::update_body(std::uint8_t byte) {
  if (in_string_) {
    update_string(byte);
    return;
  }
  Level& level = levels_[depth_];
  switch (byte) {
    case '"':
      in_string_ = true;
      key_ = 0;
      key_known_ = false;
      prefix_ = 0;
      position_ = 0;
      break;
    case ':':
      expects_value_ = true;
      level.members += mix_hash(last_key_, 0x71);
      prefix_ = 0;
      position_ = 0;
      break;
    case '{':
      open(false);
      break;
    case '[':
      open(true);
      break;
    case '}':
    case ']':
      close();
      break;
    case ',':
      expects_value_ = level.array;
      last_value_ = prefix_;
      prefix_ = 0;
      position_ = 0;
      break;
    default:
      prefix_ = mix_hash(prefix_, byte);
      ++position_;
  }
}

void ContextTracker::update_start_line(std::uint8_t byte) {
  if (byte == '\n') {
    phase_ = TextPhase::headers;
    line_start_ = true;
    prefix_ = 0;
    position_ = 0;
    return;
  }
  const bool delimiter =
      byte == '/' || byte == ' ' || byte == '?' || byte == '&' || byte == '=' || byte == ':';
  if (delimiter) {
    // Segments that hold identifiers would give every room a route of its own.
    route_ = mix_hash(route_, segment_is_identifier_ ? 0x2a : segment_);
    segment_ = 0;
    segment_is_identifier_ = false;
    prefix_ = 0;
    position_ = 0;
    return;
  }
  if (byte == '!' || byte == '$' || byte == '@' || byte == '#' || byte == '%' ||
      (byte >= '0' && byte <= '9' && position_ == 0)) {
    segment_is_identifier_ = true;
  }
  segment_ = mix_hash(segment_, byte);
  prefix_ = segment_;
  ++position_;
}

void ContextTracker::update_words(std::uint8_t byte) {
  const bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte >= 128;
  if (letter) {
    const auto lower = byte >= 'A' && byte <= 'Z' ? static_cast<std::uint8_t>(byte + 32) : byte;
    word_ = mix_hash(word_, lower);
  } else {
    if (word_ != 0) last_word_ = word_;
    word_ = 0;
  }
  const unsigned kind = class_of(byte);
  const unsigned before = shape_ & 7;
  const bool turn = kind != before && kind <= 3 && before >= 1 && before <= 3;
  shape_ = ((shape_ << 3) | kind) & 0xffffff;
  if (byte == '$' || byte == '!' || byte == '@' || byte == '#') {
    token_ = mix_hash(0x51, byte);
    token_length_ = 0;
    alphabet_ = 0;
    turns_ = 0;
  } else if (kind == 1 || kind == 2 || kind == 3 || kind == 6 || byte == '=' || byte == '.') {
    token_ = mix_hash(token_, byte);
    ++token_length_;
    turns_ += turn ? 1 : 0;
    alphabet_ |= kind >= 6 ? 8u : (1u << kind) >> 1;
    const unsigned folded = byte | 0x20u;
    if (folded > 'f' && folded <= 'z') alphabet_ |= 16;  // not hexadecimal
  } else {
    token_ = mix_hash(7, byte);
    token_length_ = 0;
    alphabet_ = 0;
    turns_ = 0;
  }
}

void ContextTracker::update(std::uint8_t byte) {
  history_ = (history_ << 8) | byte;
  switch (phase_) {
    case TextPhase::start_line:
      update_start_line(byte);
      break;
    case TextPhase::headers:
      if (byte == '\n') {
        if (line_start_) {
          phase_ = TextPhase::body;
          expects_value_ = true;
        }
        line_start_ = true;
        prefix_ = 0;
        position_ = 0;
      } else {
        line_start_ = false;
        prefix_ = mix_hash(prefix_, byte);
        ++position_;
      }
      break;
    case TextPhase::body:
      update_body(byte);
      break;
  }
  update_words(byte);
}

void ContextTracker::hashes(std::array<std::uint32_t, kContexts>& out) const {
  const auto low = static_cast<std::uint32_t>(history_);
  const auto high = static_cast<std::uint32_t>(history_ >> 32);
  const std::uint32_t o1 = low & 0xff, o2 = low & 0xffff, o3 = low & 0xffffff;
  const Level& level = levels_[depth_];
  const std::uint32_t field = value_key();
  const std::uint32_t where = place();
  const std::uint32_t spot = position_ > 20 ? 20 : position_;
  const std::uint32_t run = token_length_ > 100 ? 100 : token_length_;
  std::size_t i = 0;
  out[i++] = random_token() ? mix_hash(run, 0x80 + alphabet_) : where;
  out[i++] = o1 | 0x100;
  out[i++] = o2 | 0x20000;
  out[i++] = o3 | 0x3000000;
  out[i++] = mix_hash(low, 4);
  out[i++] = mix_hash(low, 5 + (high & 0xff) * 16);
  out[i++] = mix_hash(low, 7 + (high & 0xffffff) * 16);
  out[i++] = mix_hash(mix_hash(word_, o1), 0x90);
  out[i++] = mix_hash(mix_hash(word_, o1), mix_hash(last_key_, 0x98 + where));
  out[i++] = mix_hash(mix_hash(field, o2), 0x91);
  out[i++] = mix_hash(mix_hash(field, prefix_), 0xa0 + where);      // field and value so far
  out[i++] = mix_hash(mix_hash(last_key_, prefix_), 0xb0 + where);  // key alone and value so far
  out[i++] = mix_hash(mix_hash(prefix_, where), 0xc0);              // value so far, anywhere
  out[i++] = mix_hash(mix_hash(last_key_, o3), 0xd0 + where);
  out[i++] = mix_hash(mix_hash(level.type, last_key_), mix_hash(prefix_, 0xe0 + where));  // event type
  out[i++] =
      mix_hash(mix_hash(route_, level.members), mix_hash(prefix_, 0xf0 + where));  // route, keys so far
  out[i++] = mix_hash(mix_hash(field, spot), 0x1000 + o1 * 8 + where);        // field, position, last byte
  out[i++] = mix_hash(mix_hash(field, run), 0x1100 + alphabet_ * 8 + where);  // field, length, alphabet
  out[i++] = mix_hash(shape_ & 0x7fff, 0x1200 + run * 32 + alphabet_);
  out[i++] = mix_hash(mix_hash(last_key_, older_key_), mix_hash(prefix_, 0x1400 + where));   // two keys
  out[i++] = mix_hash(mix_hash(level.key, prefix_), 0x1500 + where);                         // object
  out[i++] = mix_hash(mix_hash(level.name, last_key_), mix_hash(prefix_, 0x1600 + where));   // key in parent
  out[i++] = mix_hash(mix_hash(last_value_, last_key_), mix_hash(prefix_, 0x1700 + where));  // value before
  out[i++] = mix_hash(mix_hash(word_, last_word_), 0x1800 + o1);                             // two words
}

}  // namespace ravine::gateway
