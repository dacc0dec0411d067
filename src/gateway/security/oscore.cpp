#include "gateway/security/oscore.h"

#include <fmt/format.h>

#include <algorithm>

#include "gateway/security/cbor_writer.h"
#include "gateway/security/oscore_plaintext.h"

namespace ravine::gateway::security {
namespace {

constexpr std::uint8_t kStateVersion = 1;
constexpr std::uint64_t kAlgorithm = 10;  // AES-CCM-16-64-128, IANA COSE algorithms
constexpr std::uint8_t kPost = 0x02, kFetch = 0x05, kChanged = 0x44, kContent = 0x45, kUnauthorized = 0x81;
constexpr std::size_t kEchoSize = 8;            // bytes; RFC 9175 §2.2 allows 1 to 40
constexpr std::uint64_t kFailureBlock = 64;     // failed opens per durable record: 256 in a key's life
constexpr std::size_t kMaxOptionValue = 65535;  // bytes
constexpr std::size_t kMaxContent = kMaxPlaintext - 64;

// The info structure of §3.2.1.
Bytes derivation_info(ByteView id, const std::optional<Bytes>& id_context, std::string_view type,
                      std::size_t size) {
  CborWriter info;
  info.array(5);
  info.bytes(id);
  if (id_context) {
    info.bytes(*id_context);
  } else {
    info.null();
  }
  info.integer(kAlgorithm);
  info.text(type);
  info.integer(size);
  return info.take();
}

// Enc_structure around the external AAD of §5.4.
Bytes additional_data(ByteView request_kid, ByteView request_partial_iv) {
  CborWriter external;
  external.array(5);
  external.integer(1);  // oscore_version
  external.array(1);
  external.integer(kAlgorithm);
  external.bytes(request_kid);
  external.bytes(request_partial_iv);
  external.bytes({});  // class I options: none are defined
  CborWriter out;
  out.array(3);
  out.text("Encrypt0");
  out.bytes({});
  out.bytes(external.take());
  return out.take();
}

Bytes encode_partial_iv(std::uint64_t number) {
  Bytes bytes;
  for (int shift = 32; shift > 0; shift -= 8)
    if (number >> shift != 0) bytes.push_back(static_cast<std::uint8_t>(number >> shift));
  bytes.push_back(static_cast<std::uint8_t>(number));
  return bytes;
}

std::uint64_t decode_partial_iv(ByteView bytes) {
  std::uint64_t number = 0;
  for (const std::uint8_t byte : bytes) number = (number << 8) | byte;
  return number;
}

const CoapOption* find(const CoapContent& content, std::uint16_t number) {
  const auto at = std::find_if(content.options.begin(), content.options.end(),
                               [&](const CoapOption& option) { return option.number == number; });
  return at == content.options.end() ? nullptr : &*at;
}

void insert_sorted(std::vector<CoapOption>& options, CoapOption option) {
  const auto at =
      std::upper_bound(options.begin(), options.end(), option.number,
                       [](std::uint16_t number, const CoapOption& other) { return number < other.number; });
  options.insert(at, std::move(option));
}

bool is_request_code(std::uint8_t code) {
  return code != 0 && code >> 5 == 0;
}
bool is_response_code(std::uint8_t code) {
  return code >> 5 == 2 || code >> 5 == 4 || code >> 5 == 5;
}

// The one OSCORE option of a message, decoded.
std::expected<OscoreOption, OscoreDrop> read_option(const CoapContent& message) {
  const auto is_oscore = [](const CoapOption& option) { return option.number == kOptionOscore; };
  const auto count = std::count_if(message.options.begin(), message.options.end(), is_oscore);
  if (count == 0) return std::unexpected(OscoreDrop::no_option);
  auto option = OscoreOption::decode(find(message, kOptionOscore)->value);
  // §2: an OSCORE message always has a payload, and the option does not repeat.
  if (count != 1 || !option || message.payload.empty()) return std::unexpected(OscoreDrop::bad_option);
  return std::move(*option);
}

Error invalid(std::string message) {
  return {ErrorKind::invalid_argument, std::move(message)};
}

Result<> check_parameters(const OscoreParameters& parameters) {
  if (parameters.master_secret.empty() || parameters.master_secret.size() > kMaxMasterSecret)
    return invalid(fmt::format("OSCORE master secret of {} bytes: 1 to {}", parameters.master_secret.size(),
                               kMaxMasterSecret));
  if (parameters.master_salt.size() > kMaxMasterSecret)
    return invalid(fmt::format("OSCORE master salt of {} bytes: at most {}", parameters.master_salt.size(),
                               kMaxMasterSecret));
  if (parameters.sender_id.size() > kMaxOscoreId || parameters.recipient_id.size() > kMaxOscoreId)
    return invalid(fmt::format("OSCORE IDs have at most {} bytes", kMaxOscoreId));
  if (parameters.sender_id == parameters.recipient_id)
    return invalid("OSCORE sender and recipient ID are equal: both sides would use one key");
  if (parameters.id_context && parameters.id_context->size() > kMaxIdContext)
    return invalid(fmt::format("OSCORE ID context of more than {} bytes", kMaxIdContext));
  return {};
}

Result<> check_content(const CoapContent& content) {
  std::size_t size = content.payload.size();
  std::uint16_t last = 0;
  for (const CoapOption& option : content.options) {
    if (option.number == kOptionProxyUri)
      return invalid("OSCORE: split Proxy-Uri into Proxy-Scheme, Uri-Host, Uri-Port, Uri-Path and Uri-Query");
    if (option.number == kOptionOscore) return invalid("the message is already protected by OSCORE");
    if (option.number < last || option.value.size() > kMaxOptionValue)
      return invalid("CoAP options must be in order of number and of at most 65535 bytes");
    last = option.number;
    size += option.value.size() + 5;
  }
  if (size > kMaxContent)
    return invalid(fmt::format("a CoAP message of {} bytes is too large; use blocks", size));
  return {};
}

}  // namespace

OscoreContext::OscoreContext(OscoreParameters parameters, SequenceStore& store)
    : parameters_(std::move(parameters)), store_(&store) {
  const Hash extracted = hkdf_extract(parameters_.master_salt, parameters_.master_secret);
  const auto key = [&](ByteView id) {
    return expand_secret<kKeySize>(extracted, derivation_info(id, parameters_.id_context, "Key", kKeySize));
  };
  sender_key_ = key(parameters_.sender_id);
  recipient_key_ = key(parameters_.recipient_id);
  common_iv_ =
      expand_secret<kNonceSize>(extracted, derivation_info({}, parameters_.id_context, "IV", kNonceSize));
  wipe(parameters_.master_secret);
  parameters_.master_secret.clear();
}

Result<OscoreContext> OscoreContext::make(OscoreParameters parameters, SequenceStore& store) {
  if (auto checked = check_parameters(parameters); !checked) return checked.error();
  OscoreContext context(std::move(parameters), store);
  // So that a restart finds that the context was in use, even when it only ever received.
  if (auto stored = store.persist(context.encode()); !stored) return stored.error();
  return context;
}

Result<OscoreContext> OscoreContext::restore(OscoreParameters parameters, ByteView state,
                                             SequenceStore& store) {
  if (auto checked = check_parameters(parameters); !checked) return checked.error();
  ByteReader in(state);
  const std::uint8_t version = in.read_u8();
  const std::uint64_t limit = in.read_u64();
  const std::uint64_t failed = in.read_u64();
  if (!in.ok() || in.remaining() != 0 || version != kStateVersion || limit > kMaxSends ||
      failed > 2 * kMaxFailedOpens)
    return invalid("the OSCORE state is damaged or of a newer version; set up new keys");
  OscoreContext context(std::move(parameters), store);
  context.numbers_ = NumberBlock(limit);
  context.failed_opens_ = context.failed_limit_ = failed;
  context.window_trusted_ = false;
  return context;
}

Bytes OscoreContext::encode() const {
  ByteWriter out;
  out.write_u8(kStateVersion);
  out.write_u64(numbers_.limit());
  out.write_u64(failed_limit_);
  return out.take();
}

Result<std::uint64_t> OscoreContext::take_number() {
  if (numbers_.exhausted())
    return Error{ErrorKind::limit_reached,
                 fmt::format("this OSCORE key has sealed its {} messages; set up new keys", numbers_.next())};
  if (numbers_.needs_reservation()) {
    const std::uint64_t before = numbers_.limit();
    numbers_.reserve();
    if (auto stored = store_->persist(encode()); !stored) {
      numbers_.withdraw(before);
      return stored.error();
    }
  }
  return numbers_.take();
}

// §5.2: size of the ID, the ID padded to 7 bytes, the partial IV padded to 5, all XORed with the common IV.
Nonce OscoreContext::nonce(ByteView id, ByteView partial_iv) const {
  Nonce out{};
  out[0] = static_cast<std::uint8_t>(id.size());
  std::copy(id.begin(), id.end(), out.begin() + static_cast<std::ptrdiff_t>(8 - id.size()));
  std::copy(partial_iv.begin(), partial_iv.end(), out.end() - static_cast<std::ptrdiff_t>(partial_iv.size()));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] ^= common_iv_.view()[i];
  return out;
}

Result<CoapContent> OscoreContext::seal(const CoapContent& message, bool request,
                                        const OscoreExchange& exchange,
                                        std::optional<std::uint64_t> own_number) {
  const bool observe = find(message, kOptionObserve) != nullptr;
  CoapContent outer;
  outer.code = request ? (observe ? kFetch : kPost) : (observe ? kContent : kChanged);
  std::vector<CoapOption> inner;
  for (const CoapOption& option : message.options) {
    if (is_outer_option(option.number)) {
      outer.options.push_back(option);
    } else if (option.number == kOptionObserve) {
      // §4.1.3.5: for the proxies outside; inside, a response's is empty, its order comes from the partial
      // IV.
      outer.options.push_back(option);
      inner.push_back({option.number, request ? option.value : Bytes{}});
    } else {
      inner.push_back(option);
    }
  }
  OscoreOption option;
  Bytes nonce_piv = exchange.partial_iv_;
  ByteView nonce_id = exchange.kid_;
  if (own_number) {
    nonce_piv = encode_partial_iv(*own_number);
    nonce_id = parameters_.sender_id;
    option.partial_iv = nonce_piv;
  }
  if (request) {
    option.kid = parameters_.sender_id;
    if (parameters_.send_kid_context) option.kid_context = parameters_.id_context;
  }
  insert_sorted(outer.options, {kOptionOscore, option.encode()});
  Result<Bytes> sealed = seal_ccm(sender_key_.view(), nonce(nonce_id, nonce_piv),
                                  additional_data(exchange.kid_, exchange.partial_iv_),
                                  encode_inner(message.code, inner, message.payload));
  if (!sealed) return sealed.error();
  outer.payload = std::move(*sealed);
  return outer;
}

Result<OscoreContext::Protected> OscoreContext::protect_request(const CoapContent& request) {
  if (!is_request_code(request.code))
    return invalid(fmt::format("code {} is not of a request", request.code));
  if (auto checked = check_content(request); !checked) return checked.error();
  const Result<std::uint64_t> number = take_number();
  if (!number) return number.error();
  Protected result;
  result.exchange.kid_ = parameters_.sender_id;
  result.exchange.partial_iv_ = encode_partial_iv(*number);
  const CoapOption* observe = find(request, kOptionObserve);
  result.exchange.observe_ = observe != nullptr && decode_partial_iv(observe->value) == 0;
  Result<CoapContent> sealed = seal(request, true, result.exchange, *number);
  if (!sealed) return sealed.error();
  result.message = std::move(*sealed);
  return result;
}

Result<CoapContent> OscoreContext::protect_response(const CoapContent& response, OscoreExchange& exchange,
                                                    bool own_partial_iv) {
  if (!is_response_code(response.code))
    return invalid(fmt::format("code {} is not of a response", response.code));
  if (auto checked = check_content(response); !checked) return checked.error();
  // Every seal draws a number, used or not, so that the count of the key's seals survives a restart.
  const Result<std::uint64_t> number = take_number();
  if (!number) return number.error();
  const bool own = own_partial_iv || !exchange.nonce_free_ || find(response, kOptionObserve) != nullptr;
  if (!own) exchange.nonce_free_ = false;
  return seal(response, false, exchange, own ? std::optional(*number) : std::nullopt);
}

bool OscoreContext::matches(const OscoreOption& option) const {
  return option.kid && *option.kid == parameters_.recipient_id &&
         (!option.kid_context || option.kid_context == parameters_.id_context);
}

bool OscoreContext::note_failure() {
  if (++failed_opens_ > failed_limit_) {
    failed_limit_ = failed_opens_ + kFailureBlock - 1;
    // Without the store's record a restart forgives up to one block; refusing good messages would be worse.
    (void)store_->persist(encode());
  }
  return failed_opens_ < kMaxFailedOpens;
}

std::expected<CoapContent, OscoreDrop> OscoreContext::open(const CoapContent& message, ByteView request_kid,
                                                           ByteView request_piv, ByteView nonce_id,
                                                           ByteView nonce_piv) {
  if (failed_opens_ >= kMaxFailedOpens) return std::unexpected(OscoreDrop::limit_reached);
  const Result<Bytes> plaintext = open_ccm(recipient_key_.view(), nonce(nonce_id, nonce_piv),
                                           additional_data(request_kid, request_piv), message.payload);
  if (!plaintext) {
    note_failure();
    return std::unexpected(OscoreDrop::decryption_failed);
  }
  auto content = decode_inner(*plaintext);
  if (!content) return std::unexpected(OscoreDrop::bad_plaintext);
  // §8.2, §8.4: what is inner counts only inside, what is outer only outside.
  std::erase_if(content->options, [](const CoapOption& option) { return is_outer_option(option.number); });
  for (const CoapOption& option : message.options)
    if (option.number != kOptionOscore && is_outer_option(option.number))
      insert_sorted(content->options, option);
  return std::move(*content);
}

bool OscoreContext::settle_window(const CoapContent& opened, std::uint64_t number) {
  if (window_trusted_) {
    window_.accept(number);
    return true;
  }
  const CoapOption* echo = find(opened, kOptionEcho);
  if (echo_.empty() || echo == nullptr || !equal_constant_time(echo->value, echo_)) return false;
  // The sender made this after our challenge; whatever has a lower number may be older than our restart.
  window_.start_after(number);
  window_trusted_ = true;
  echo_.clear();
  return true;
}

std::expected<OscoreContext::OpenedRequest, OscoreDrop> OscoreContext::unprotect_request(
    const CoapContent& message) {
  auto option = read_option(message);
  if (!option) return std::unexpected(option.error());
  if (!option->kid || !option->partial_iv) return std::unexpected(OscoreDrop::bad_option);
  if (!matches(*option)) return std::unexpected(OscoreDrop::unknown_context);
  const std::uint64_t number = decode_partial_iv(*option->partial_iv);
  if (window_trusted_ && window_.judge(number) != ReplayWindow::Verdict::fresh)
    return std::unexpected(OscoreDrop::replayed);
  auto content = open(message, *option->kid, *option->partial_iv, *option->kid, *option->partial_iv);
  if (!content) return std::unexpected(content.error());
  OpenedRequest result;
  result.fresh = settle_window(*content, number);
  if (!is_request_code(content->code)) return std::unexpected(OscoreDrop::bad_plaintext);
  const CoapOption* observe = find(*content, kOptionObserve);
  result.exchange.observe_ = observe != nullptr && decode_partial_iv(observe->value) == 0;
  result.exchange.kid_ = std::move(*option->kid);
  result.exchange.partial_iv_ = std::move(*option->partial_iv);
  result.exchange.nonce_free_ = result.fresh;
  result.message = std::move(*content);
  return result;
}

std::expected<OscoreContext::OpenedResponse, OscoreDrop> OscoreContext::unprotect_response(
    const CoapContent& message, OscoreExchange& exchange) {
  auto option = read_option(message);
  if (!option) return std::unexpected(option.error());
  const std::optional<std::uint64_t> number =
      option->partial_iv ? std::optional(decode_partial_iv(*option->partial_iv)) : std::nullopt;
  const bool stale = exchange.newest_notification_ && (!number || *number <= *exchange.newest_notification_);
  if (exchange.observe_ && stale) return std::unexpected(OscoreDrop::stale_notification);
  auto content =
      option->partial_iv
          ? open(message, exchange.kid_, exchange.partial_iv_, parameters_.recipient_id, *option->partial_iv)
          : open(message, exchange.kid_, exchange.partial_iv_, exchange.kid_, exchange.partial_iv_);
  if (!content) return std::unexpected(content.error());
  if (!is_response_code(content->code)) return std::unexpected(OscoreDrop::bad_plaintext);
  OpenedResponse result;
  const auto observe = std::find_if(content->options.begin(), content->options.end(),
                                    [](const CoapOption& each) { return each.number == kOptionObserve; });
  if (observe != content->options.end()) {
    result.notification = number.value_or(0);
    if (number) exchange.newest_notification_ = number;
    observe->value.clear();
    for (int shift = 16; shift >= 0; shift -= 8) {
      const auto byte = static_cast<std::uint8_t>(*result.notification >> shift);
      if (byte != 0 || !observe->value.empty()) observe->value.push_back(byte);
    }
  }
  result.message = std::move(*content);
  return result;
}

CoapContent OscoreContext::echo_challenge(RandomSource& random) {
  if (echo_.empty()) {
    echo_.resize(kEchoSize);
    random.fill(echo_);
  }
  CoapContent challenge;
  challenge.code = kUnauthorized;
  challenge.options.push_back({kOptionEcho, echo_});
  return challenge;
}

bool OscoreContext::rekey_due() const {
  return numbers_.next() >= kMaxSends / 2 || failed_opens_ >= kMaxFailedOpens / 2;
}

}  // namespace ravine::gateway::security
