// The commands' way to the running node: its control socket, with the messages that tell what to do when it
// is not there.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "services/control_client.h"

namespace ravine::cli {

struct Context;

std::string state_directory(const Context& context);
std::string control_path(const Context& context);

// Fails with the message and returns the exit code, when no node answers (kNotRunning) or the call failed.
class Daemon {
 public:
  // `code` is set when the result is empty; the message has been printed then.
  static std::optional<Daemon> open(const Context& context, int& code);
  // Prints and returns nothing when the call fails; `code` tells the exit code.
  std::optional<boost::json::value> call(std::string_view method, boost::json::object params, int& code,
                                         Duration limit = std::chrono::seconds(20),
                                         const services::ControlClient::Notify& notify = {});
  services::ControlClient& client() { return client_; }

 private:
  explicit Daemon(services::ControlClient client) : client_(std::move(client)) {}
  services::ControlClient client_;
};

bool is_running(const Context& context);

// Readers of answers; an absent or odd field reads as empty, so that an older node's answer still prints.
std::string text_of(const boost::json::value& object, std::string_view key);
std::int64_t number_of(const boost::json::value& object, std::string_view key);
double real_of(const boost::json::value& object, std::string_view key);
bool flag_of(const boost::json::value& object, std::string_view key);
const boost::json::array& list_of(const boost::json::value& object, std::string_view key);
const boost::json::value& value_of(const boost::json::value& object, std::string_view key);
std::string joined(const boost::json::array& values, std::string_view separator = ", ");

}  // namespace ravine::cli
