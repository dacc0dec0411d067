#include "node/config.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace ravine::node {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(std::string_view text) {
  const auto config = parse_config(text, "r.toml");
  return config ? "" : config.error().message;
}

TEST(Config, reads_every_section) {
  const auto config = parse_config(R"(
[node]
state = "/tmp/state"
port = 5000
name = "box"
listen = ["127.0.0.1", "::1"]
log_level = "debug"
log_levels = { session = "trace" }
log_format = "json"
control = "/tmp/c.sock"
metrics = "127.0.0.1:9464"
idle_timeout = "2m"
keep_alive = "20s"
congestion = "bbr"
protection = "gnutls"
[[network]]
name = "home"
directory = "networks/home"
[[peer]]
name = "server"
id = "abcdefghijklmnop"
network = "home"
addresses = ["192.0.2.1:4717", "[2001:db8::1]:4717", "server.example:4717"]
keep = true
[proxy]
listen = "127.0.0.1:1081"
[[forward]]
listen = "127.0.0.1:2222"
to = "server.fuse:22"
[[expose]]
port = 80
to = "127.0.0.1:8080"
allow = ["laptop", "group:ops", "abcdefghijklmnop"]
)",
                                   "r.toml");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->node.port, 5000);
  EXPECT_EQ(config->node.listen.size(), 2u);
  EXPECT_EQ(config->node.log_level, LogLevel::debug);
  EXPECT_EQ(config->node.log_levels.at("session"), LogLevel::trace);
  EXPECT_EQ(config->node.log_format, LogFormat::json);
  EXPECT_EQ(config->node.metrics->port, 9464);
  EXPECT_EQ(config->node.idle_timeout, 120s);
  EXPECT_EQ(config->node.congestion, session::CongestionControl::bbr);
  EXPECT_EQ(config->node.protection, session::ProtectionBackend::gnutls);
  ASSERT_EQ(config->peers.size(), 1u);
  EXPECT_TRUE(config->peers[0].keep);
  EXPECT_EQ(config->peers[0].addresses.size(), 3u);
  EXPECT_EQ(config->proxy.listen.port, 1081);
  EXPECT_EQ(config->forwards.at(0).to, "server.fuse:22");
  EXPECT_THAT(config->exposes.at(0).allow, ElementsAre("laptop", "group:ops", "abcdefghijklmnop"));
}

TEST(Config, empty_file_means_the_defaults) {
  const auto config = parse_config("", "r.toml");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->proxy.listen.to_text(), "127.0.0.1:1080");
  EXPECT_FALSE(config->node.port.has_value());
}

struct Fault {
  const char* name;
  const char* text;
  const char* place;
  const char* words;
};
void PrintTo(const Fault& fault, std::ostream* out) {
  *out << fault.name;
}

class ConfigFault : public testing::TestWithParam<Fault> {};

TEST_P(ConfigFault, is_named_with_its_place_and_remedy) {
  const std::string message = error_of(GetParam().text);
  EXPECT_THAT(message, StartsWith(GetParam().place));
  EXPECT_THAT(message, HasSubstr(GetParam().words));
}

INSTANTIATE_TEST_SUITE_P(
    Rows, ConfigFault,
    testing::Values(
        Fault{"syntax", "[node]\nport = = 3\n", "r.toml:2:8: ", "not TOML"},
        Fault{"unclosed_string", "[node]\nname = \"box\n", "r.toml:2:", "not TOML"},
        Fault{"duplicate_key", "[node]\nport = 1\nport = 2\n", "r.toml:3:", "not TOML"},
        Fault{"unknown_key", "[node]\nprot = 3\n", "r.toml:2:1: ", "did you mean \"port\"?"},
        Fault{"unknown_section", "[nodes]\n", "r.toml:1:2: ", "did you mean \"node\"?"},
        Fault{"unknown_far_key", "[node]\nzebra = 3\n", "r.toml:2:1: ", "known are: state"},
        Fault{"wrong_type", "[node]\nport = \"80\"\n", "r.toml:2:8: ", "has to be a port number"},
        Fault{"port_range", "[node]\nport = 70000\n", "r.toml:2:8: ", "0 to 65535"},
        Fault{"expose_port_zero", "[[expose]]\nport = 0\nto = \"127.0.0.1:1\"\n",
              "r.toml:2:8: ", "1 to 65535"},
        Fault{"duration", "[node]\nidle_timeout = \"60\"\n", "r.toml:2:16: ", "ms, s, m, h or d"},
        Fault{"duration_range", "[node]\nidle_timeout = \"1d\"\n", "r.toml:2:16: ", "5s to 600s"},
        Fault{"keep_alive", "[node]\nkeep_alive = \"50s\"\n", "r.toml:2:14: ", "half of idle_timeout"},
        Fault{"level", "[node]\nlog_level = \"debgu\"\n", "r.toml:2:13: ", "did you mean \"debug\"?"},
        Fault{"component_level", "[node]\nlog_levels = { session = \"loud\" }\n",
              "r.toml:2:26: ", "one of: trace"},
        Fault{"listen", "[node]\nlisten = [\"0.0.0.0:80\"]\n", "r.toml:2:10: ", "without a port"},
        Fault{"congestion", "[node]\ncongestion = \"cubik\"\n", "r.toml:2:14: ", "did you mean \"cubic\"?"},
        Fault{"network_name", "[[network]]\ndirectory = \"x\"\n", "r.toml:1:1: ", "needs a name"},
        Fault{"network_bracket", "[network]\nname = \"x\"\n", "r.toml:1:1: ", "[[network]]"},
        Fault{"network_twice", "[[network]]\nname = \"a\"\n[[network]]\nname = \"a\"\n",
              "r.toml:3:1: ", "a twice"},
        Fault{"pinned", "[[network]]\nname = \"a\"\npinned = [\"xyz\"]\n", "r.toml:3:10: ", "64 hex digits"},
        Fault{"peer_nameless", "[[peer]]\nkeep = true\n", "r.toml:1:1: ", "needs a name or an id"},
        Fault{"peer_id", "[[peer]]\nid = \"short\"\n", "r.toml:2:6: ", "16 characters"},
        Fault{"peer_address", "[[peer]]\nname = \"a\"\naddresses = [\"192.0.2.1\"]\n",
              "r.toml:3:13: ", "host or port"},
        Fault{"proxy_open", "[proxy]\nlisten = \"0.0.0.0:1080\"\n", "r.toml:2:10: ", "add users"},
        Fault{"proxy_address", "[proxy]\nlisten = \"localhost\"\n", "r.toml:2:10: ", "127.0.0.1:1080"},
        Fault{"proxy_user", "[proxy]\nusers = [{ name = \"ann\" }]\n", "r.toml:2:10: ", "password"},
        Fault{"forward_to", "[[forward]]\nlisten = \"127.0.0.1:1\"\nto = \"box\"\n",
              "r.toml:3:6: ", "box.fuse:22"},
        Fault{"forward_listen", "[[forward]]\nto = \"box.fuse:22\"\n", "r.toml:1:1: ", "needs listen"},
        Fault{"expose_to", "[[expose]]\nport = 80\n", "r.toml:1:1: ", "needs to"},
        Fault{"expose_allow", "[[expose]]\nport = 80\nto = \"127.0.0.1:80\"\nallow = [\"A B\"]\n",
              "r.toml:4:9: ", "group:NAME"},
        Fault{"expose_twice",
              "[[expose]]\nport = 80\nto = \"127.0.0.1:80\"\n[[expose]]\nport = 80\nto = \"127.0.0.1:81\"\n",
              "r.toml:4:1: ", "port 80 twice"}),
    [](const auto& row) { return std::string(row.param.name); });

TEST(Config, reports_all_faults_in_one_run) {
  const std::string message = error_of("[node]\nprot = 3\nlog_level = \"x\"\n[proxy]\nlisten = 3\n");
  EXPECT_THAT(message, HasSubstr("r.toml:2:1: "));
  EXPECT_THAT(message, HasSubstr("r.toml:3:13: "));
  EXPECT_THAT(message, HasSubstr("r.toml:5:10: "));
}

TEST(Config, reports_at_most_its_cap_of_faults) {
  std::string text = "[node]\n";
  for (int i = 0; i < 100; ++i) text += "zz" + std::to_string(i) + " = 1\n";
  const std::string message = error_of(text);
  EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(message, '\n')), kMaxConfigErrors);
  EXPECT_THAT(message, HasSubstr("80 more faults"));
}

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() {
    std::string pattern = testing::TempDir() + "rv-config-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~ConfigFile() override { std::filesystem::remove_all(directory_); }
  std::string write(std::string_view text, mode_t mode) const {
    const std::string path = directory_ + "/ravine.toml";
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::string directory_;
};

TEST_F(ConfigFile, missing_is_told_with_its_path) {
  const auto config = load_config(directory_ + "/none.toml");
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::not_found);
  EXPECT_THAT(config.error().message, HasSubstr("none.toml: no such file"));
}

TEST_F(ConfigFile, with_passwords_must_be_private) {
  constexpr std::string_view kText =
      "[proxy]\nlisten = \"0.0.0.0:1080\"\nusers = [{ name = \"a\", password = \"b\" }]\n";
  const auto open = load_config(write(kText, 0644));
  ASSERT_FALSE(open);
  EXPECT_THAT(open.error().message, HasSubstr("chmod 600 " + directory_));
  EXPECT_TRUE(load_config(write(kText, 0600)));
}

TEST_F(ConfigFile, without_passwords_may_be_public) {
  EXPECT_TRUE(load_config(write("[node]\nport = 1\n", 0644)));
}

TEST_F(ConfigFile, huge_is_refused_before_parsing) {
  const auto config = load_config(write(std::string(kMaxConfigBytes + 10, '#'), 0644));
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().kind, ErrorKind::limit_reached);
}

TEST(ConfigReload, names_only_what_needs_a_restart) {
  const auto running = parse_config("[node]\nport = 1\nlog_level = \"info\"\n", "r");
  const auto wanted = parse_config(
      "[node]\nport = 2\nlog_level = \"debug\"\ncongestion = \"bbr\"\n[[peer]]\nname = \"a\"\n"
      "[[expose]]\nport = 80\nto = \"127.0.0.1:80\"\n",
      "r");
  EXPECT_THAT(keys_needing_restart(*running, *wanted), ElementsAre("node.port", "node.congestion"));
}

TEST(ConfigWords, durations_have_a_unit_and_a_bound) {
  EXPECT_EQ(parse_duration("250ms"), 250ms);
  EXPECT_EQ(parse_duration("30d"), 30 * 24h);
  EXPECT_FALSE(parse_duration("30"));
  EXPECT_FALSE(parse_duration("-1s"));
  EXPECT_FALSE(parse_duration("9999999999999999999d"));
  EXPECT_FALSE(parse_duration("100000d"));
  EXPECT_FALSE(parse_duration("s"));
}

TEST(ConfigWords, nearest_word_needs_to_be_near) {
  EXPECT_EQ(nearest_word("lisen", {"listen", "port"}), "listen");
  EXPECT_FALSE(nearest_word("zebra", {"listen", "port"}));
}

TEST(ConfigWords, names_are_lower_case_labels) {
  EXPECT_TRUE(is_valid_name("box-1"));
  EXPECT_FALSE(is_valid_name("Box"));
  EXPECT_FALSE(is_valid_name("-box"));
  EXPECT_FALSE(is_valid_name("a.b"));
  EXPECT_FALSE(is_valid_name(std::string(64, 'a')));
}

}  // namespace
}  // namespace ravine::node
