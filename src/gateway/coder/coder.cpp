#include "gateway/coder/coder.h"

#include "gateway/model/message_coder.h"

namespace ravine::gateway::coder {
namespace {

class NoneCoder final : public Coder {
 public:
  Bytes encode(ByteView text, const MessageContext&) override { return to_bytes(text); }
  std::optional<Bytes> decode(ByteView coded, const MessageContext&, std::size_t limit) override {
    if (coded.size() > limit) return std::nullopt;
    return to_bytes(coded);
  }
  void commit(ByteView, const MessageContext&) override {}
  void reset() override {}
  std::unique_ptr<Coder> clone() const override { return std::make_unique<NoneCoder>(); }
  CoderId id() const override { return {'n', 'o', 'n', 'e'}; }
  std::string_view name() const override { return "none"; }
};

class ModelCoder final : public Coder {
 public:
  ModelCoder(MessageCoder model, const CoderId& id) : model_(std::move(model)), id_(id) {}

  Bytes encode(ByteView text, const MessageContext& context) override {
    return model_.encode(text, phase(context), hint(context));
  }
  std::optional<Bytes> decode(ByteView coded, const MessageContext& context, std::size_t limit) override {
    return model_.decode(coded, phase(context), hint(context), limit);
  }
  void commit(ByteView text, const MessageContext& context) override {
    model_.commit(text, phase(context), hint(context));
  }
  void reset() override { model_.reset(); }
  std::unique_ptr<Coder> clone() const override { return std::make_unique<ModelCoder>(model_, id_); }
  CoderId id() const override { return id_; }
  std::string_view name() const override { return "model"; }

 private:
  static TextPhase phase(const MessageContext& context) {
    return context.direction == Direction::body ? TextPhase::body : TextPhase::start_line;
  }
  static std::uint32_t hint(const MessageContext& context) {
    return context.request.empty() ? 0 : MessageCoder::route_of(context.request);
  }
  MessageCoder model_;
  CoderId id_;
};

}  // namespace

std::unique_ptr<Coder> make_none_coder() {
  return std::make_unique<NoneCoder>();
}

std::unique_ptr<Coder> make_model_coder(std::shared_ptr<const Prior> prior, const CoderId& id) {
  return std::make_unique<ModelCoder>(MessageCoder(std::move(prior)), id);
}

}  // namespace ravine::gateway::coder
