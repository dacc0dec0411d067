// The channel's state and the steps that channel.cpp (sealing, state) and channel_open.cpp (opening, rekey)
// share.
#pragma once

#include <array>
#include <expected>
#include <optional>

#include "gateway/security/channel.h"
#include "gateway/security/channel_generation.h"

namespace ravine::gateway::security {

using RekeyNonce = std::array<std::uint8_t, kRekeyNonceBytes>;

struct SecureChannel::Impl {
  // A nonce tied to a message's number: of our attempt, or of the other side's that we agreed to.
  struct Offer {
    std::uint64_t number = 0;
    RekeyNonce nonce{};         // ours
    std::uint64_t made_at = 0;  // our next number then; 0 after a restart
  };

  Role role = Role::near;
  ConnectionId id{};
  Options options;
  SequenceStore* store = nullptr;
  RandomSource* random = nullptr;

  Generation current;                    // sealed under
  std::optional<Generation> previous{};  // opened under, until the other side has moved on
  std::optional<Generation>
      next{};                      // agreed to by us, waiting for the first sign that the other side knows it
  std::optional<Offer> attempt{};  // ours, in `current`
  std::optional<Offer> offer{};    // what made `next`
  // What made `current`, as its initiator: repeated in answers under `previous`, until a frame under
  // `current` comes.
  std::optional<RekeyNonce> proof{};
  bool rekey_wanted = false;

  Bytes encode() const;
  Result<> persist();
  Generation* generation(std::uint32_t wanted);
  Result<std::uint64_t> take_number();
  bool short_form(std::uint64_t number) const;
  bool rekey_due() const;
  bool starts_rekey() const;
  bool long_answer(FrameNumber message) const;
  Result<SealedFrame> seal_numbered(ByteView plaintext, bool fragment, bool with_rekey);
  std::optional<RekeyNonce> answer_nonce(FrameNumber message) const;

  struct Opened {
    std::uint64_t number = 0;
    Bytes plaintext;
  };
  std::expected<Opened, FrameDrop> try_open(Generation& generation, const FrameView& frame);
  std::expected<OpenedFrame, FrameDrop> accept(Generation& generation, const FrameView& frame, Opened opened);
  Freshness accept_message(Generation& generation, std::uint64_t number, bool& newest);
  void handle_rekey_message(const Generation& generation, std::uint64_t number, const RekeyNonce& theirs);
  void handle_rekey_answer(const Generation& generation, std::uint64_t number,
                           const std::optional<RekeyNonce>& theirs);
  void note_failure(Generation& generation);
  GatewaySecret derive_next(const RekeyNonce& ours, const RekeyNonce& theirs) const;
  void promote_next();
};

}  // namespace ravine::gateway::security
