// OSCORE (RFC 8613) with AES-CCM-16-64-128 and HKDF-SHA-256: protects CoAP requests and responses end to end.
// Works on messages as plain values; their CoAP framing, types, message IDs and tokens are the CoAP layer's.
// Thread rule: one thread drives a context. Not copyable: two copies would use one number twice.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/machine.h"
#include "gateway/security/crypto.h"
#include "gateway/security/sequence.h"

namespace ravine::gateway::security {

struct CoapOption {
  std::uint16_t number = 0;
  Bytes value;
  friend bool operator==(const CoapOption&, const CoapOption&) = default;
};

// What OSCORE sees of a CoAP message. Options in ascending order of number, as CoAP sends them.
struct CoapContent {
  std::uint8_t code = 0;
  std::vector<CoapOption> options;
  Bytes payload;
  friend bool operator==(const CoapContent&, const CoapContent&) = default;
};

inline constexpr std::uint16_t kOptionObserve = 6;
inline constexpr std::uint16_t kOptionOscore = 9;
inline constexpr std::uint16_t kOptionMaxAge = 14;
inline constexpr std::uint16_t kOptionProxyUri = 35;
inline constexpr std::uint16_t kOptionEcho = 252;
inline constexpr std::size_t kMaxOscoreId = 7;       // bytes: nonce size less 6 (RFC 8613 §3.3)
inline constexpr std::size_t kMaxIdContext = 32;     // bytes; a limit of ours
inline constexpr std::size_t kMaxMasterSecret = 64;  // bytes; a limit of ours

// Whether the option travels outside the ciphertext (RFC 8613 §4.1, figure 5, and RFC 8768, 9175, 9668).
// Everything unknown is inner.
bool is_outer_option(std::uint16_t number);

// The OSCORE option's value, RFC 8613 §6.1.
struct OscoreOption {
  std::optional<Bytes> partial_iv;  // 1–5 bytes
  std::optional<Bytes> kid_context;
  std::optional<Bytes> kid;

  Bytes encode() const;
  static std::optional<OscoreOption> decode(ByteView value);  // nullopt when malformed
};

// Why a message was not accepted.
enum class OscoreDrop : std::uint8_t {
  no_option,           // not an OSCORE message at all
  bad_option,          // option value or payload is not what §6 and §8 ask for
  unknown_context,     // kid or kid context is of another context
  replayed,            // seen, or too old to tell
  decryption_failed,   // forged, damaged, or of another context with our kid
  bad_plaintext,       // authentic, and still no CoAP message
  stale_notification,  // older than one already delivered
  limit_reached,       // this key may open no more; rekey
};
// The unprotected error response for a request that was dropped (§8.2): code and diagnostic text. Send it
// with Max-Age 0. 0 for a response, which is dropped silently.
std::uint8_t error_code(OscoreDrop drop);
std::string_view to_text(OscoreDrop drop);

// What a response needs to know of its request, at both ends. Move-only: a server's copy holds the right to
// use the request's nonce once.
class OscoreExchange {
 public:
  OscoreExchange() = default;
  OscoreExchange(OscoreExchange&&) = default;
  OscoreExchange& operator=(OscoreExchange&&) = default;

  ByteView request_kid() const { return kid_; }
  ByteView request_partial_iv() const { return partial_iv_; }
  bool observe() const { return observe_; }

 private:
  friend class OscoreContext;
  Bytes kid_;
  Bytes partial_iv_;
  bool observe_ = false;
  bool nonce_free_ = false;  // server: the request's nonce is not yet used for a response
  std::optional<std::uint64_t> newest_notification_;  // client
};

struct OscoreParameters {
  Bytes master_secret;  // 1–kMaxMasterSecret bytes; 16 or more of entropy
  Bytes master_salt;
  std::optional<Bytes> id_context;
  Bytes sender_id;               // at most kMaxOscoreId bytes, different from recipient_id
  Bytes recipient_id;            // likewise
  bool send_kid_context = true;  // puts the ID context, if there is one, into requests
};

class OscoreContext {
 public:
  struct Protected {
    CoapContent message;
    OscoreExchange exchange;  // for unprotect_response
  };
  struct OpenedRequest {
    CoapContent message;
    OscoreExchange exchange;  // for protect_response
    // False: authentic, but whether it is fresh cannot be known, since this side lost its window. Answer with
    // echo_challenge(), protected, and act on nothing.
    bool fresh = true;
  };
  struct OpenedResponse {
    CoapContent message;
    std::optional<std::uint64_t> notification;  // its order among this registration's notifications
  };

  // A new context that has never been used. Errors: invalid_argument for parameters outside their limits.
  // `store` outlives the context.
  static Result<OscoreContext> make(OscoreParameters parameters, SequenceStore& store);
  // After a restart: `state` is what the store was given last. The replay window is lost: Echo brings it
  // back.
  static Result<OscoreContext> restore(OscoreParameters parameters, ByteView state, SequenceStore& store);

  // Errors: invalid_argument for a Proxy-Uri (split it first, §4.1.3.3); limit_reached when the key has done
  // its 2^20 seals (rekey); what the store said.
  Result<Protected> protect_request(const CoapContent& request);
  std::expected<OpenedRequest, OscoreDrop> unprotect_request(const CoapContent& message);
  // Uses the request's nonce the first time, unless `own_partial_iv` or Observe ask for a number of its own.
  Result<CoapContent> protect_response(const CoapContent& response, OscoreExchange& exchange,
                                       bool own_partial_iv = false);
  // Notifications come out with Observe set to their order (§4.1.3.5.2).
  std::expected<OpenedResponse, OscoreDrop> unprotect_response(const CoapContent& message,
                                                               OscoreExchange& exchange);

  // Whether a request's option is meant for this context, so that a server with several can choose.
  bool matches(const OscoreOption& option) const;

  // 4.01 with an Echo option (RFC 9175 §2.4, RFC 8613 B.1.2); protect it with own_partial_iv.
  CoapContent echo_challenge(RandomSource& random);
  bool window_trusted() const { return window_trusted_; }

  bool rekey_due() const;
  std::uint64_t seals() const { return numbers_.next(); }
  std::uint64_t failed_opens() const { return failed_opens_; }
  Bytes encode() const;  // at most 32 bytes; no secrets

  // Derived values, for tests against the RFC's vectors and for interoperability checks.
  ByteView sender_key() const { return sender_key_.view(); }
  ByteView recipient_key() const { return recipient_key_.view(); }
  ByteView common_iv() const { return common_iv_.view(); }
  // Goes on at `number`. Requires number ≥ the next one.
  void skip_to(std::uint64_t number) { numbers_.skip_to(number); }

 private:
  OscoreContext(OscoreParameters parameters, SequenceStore& store);
  Result<std::uint64_t> take_number();
  Result<CoapContent> seal(const CoapContent& message, bool request, const OscoreExchange& exchange,
                           std::optional<std::uint64_t> own_number);
  std::expected<CoapContent, OscoreDrop> open(const CoapContent& message, ByteView request_kid,
                                              ByteView request_piv, ByteView nonce_id, ByteView nonce_piv);
  Nonce nonce(ByteView id, ByteView partial_iv) const;
  bool note_failure();
  bool settle_window(const CoapContent& opened, std::uint64_t number);

  OscoreParameters parameters_;
  Secret<kKeySize> sender_key_;
  Secret<kKeySize> recipient_key_;
  Secret<kNonceSize> common_iv_;
  NumberBlock numbers_;
  ReplayWindow window_;
  bool window_trusted_ = true;
  std::uint64_t failed_opens_ = 0;
  std::uint64_t failed_limit_ = 0;  // durable bound of failed_opens_
  Bytes echo_;                      // outstanding challenge; empty for none
  SequenceStore* store_;
};

}  // namespace ravine::gateway::security
