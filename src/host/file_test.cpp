#include "host/file.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace ravine::host {
namespace {

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "ravine-file-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  static mode_t mode_of(const std::string& path) {
    struct stat facts{};
    return ::stat(path.c_str(), &facts) == 0 ? facts.st_mode & 07777 : 0;
  }
  std::string directory_;
};

TEST_F(FileTest, write_replaces_whole_and_leaves_nothing_beside) {
  ASSERT_TRUE(write_file(path("a"), as_bytes("old"), FileMode::owner_only).ok());
  ASSERT_TRUE(write_file(path("a"), as_bytes("new content"), FileMode::owner_only).ok());
  const auto content = read_file(path("a"), 100);
  ASSERT_TRUE(content.ok());
  EXPECT_EQ(as_text(*content), "new content");
  EXPECT_EQ(mode_of(path("a")), 0600u);
  const auto names = list_files(directory_);
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(*names, std::vector<std::string>{"a"});
  ASSERT_TRUE(write_file(path("b"), as_bytes("x"), FileMode::world_readable).ok());
  EXPECT_EQ(mode_of(path("b")), 0644u);
}

TEST_F(FileTest, read_stops_at_the_limit) {
  ASSERT_TRUE(write_file(path("a"), Bytes(100, 1), FileMode::owner_only).ok());
  EXPECT_TRUE(read_file(path("a"), 100).ok());
  const auto refused = read_file(path("a"), 99);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::limit_reached);
  EXPECT_EQ(read_file(path("none"), 1).error().kind, ErrorKind::not_found);
}

TEST_F(FileTest, secret_that_others_can_read_is_refused_with_the_cure) {
  ASSERT_TRUE(write_file(path("key"), as_bytes("secret"), FileMode::owner_only).ok());
  EXPECT_TRUE(read_secret_file(path("key"), 100).ok());
  for (const mode_t mode : {0640, 0604, 0660, 0601}) {
    ASSERT_EQ(::chmod(path("key").c_str(), mode), 0);
    const auto refused = read_secret_file(path("key"), 100);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, ErrorKind::refused);
    EXPECT_NE(refused.error().message.find("chmod 600 " + path("key")), std::string::npos);
  }
}

TEST_F(FileTest, secret_of_another_user_is_refused) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to give a file away";
  ASSERT_TRUE(write_file(path("key"), as_bytes("secret"), FileMode::owner_only).ok());
  ASSERT_EQ(::chown(path("key").c_str(), 12345, 0), 0);
  const auto refused = read_secret_file(path("key"), 100);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::refused);
}

TEST_F(FileTest, fifo_in_place_of_a_secret_is_refused_at_once) {
  ASSERT_EQ(::mkfifo(path("key").c_str(), 0600), 0);
  EXPECT_EQ(read_secret_file(path("key"), 100).error().kind, ErrorKind::refused);
}

TEST_F(FileTest, full_disk_is_said_clearly_and_spares_the_old_file) {
  const std::string mount_point = path("small");
  ASSERT_TRUE(make_private_directory(mount_point).ok());
  if (::mount("none", mount_point.c_str(), "tmpfs", 0, "size=64k,mode=0700") != 0)
    GTEST_SKIP() << "needs the right to mount a small tmpfs";
  const std::string file = mount_point + "/state";
  EXPECT_TRUE(write_file(file, as_bytes("old"), FileMode::owner_only).ok());
  const auto refused = write_file(file, Bytes(256 * 1024, 1), FileMode::owner_only);
  EXPECT_FALSE(refused.ok());
  if (!refused.ok()) {
    EXPECT_NE(refused.error().message.find("no space left"), std::string::npos);
  }
  const auto content = read_file(file, 100);
  EXPECT_TRUE(content.ok() && as_text(*content) == "old");
  EXPECT_EQ(list_files(mount_point).value().size(), 1u);
  ::umount2(mount_point.c_str(), MNT_DETACH);
}

TEST_F(FileTest, directories_are_made_private_and_open_ones_refused) {
  const std::string nested = path("a/b/c");
  ASSERT_TRUE(make_private_directory(nested).ok());
  EXPECT_TRUE(make_private_directory(nested).ok());
  EXPECT_EQ(mode_of(path("a")), 0700u);
  EXPECT_EQ(mode_of(nested), 0700u);
  ASSERT_EQ(::chmod(nested.c_str(), 0770), 0);
  EXPECT_EQ(make_private_directory(nested).error().kind, ErrorKind::refused);
}

TEST_F(FileTest, lock_is_exclusive_and_ends_with_its_owner) {
  {
    const auto held = FileLock::acquire(path("lock"));
    ASSERT_TRUE(held.ok());
    const auto second = FileLock::acquire(path("lock"));
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().kind, ErrorKind::already_exists);
    EXPECT_NE(second.error().message.find(std::to_string(::getpid())), std::string::npos);
  }
  EXPECT_TRUE(FileLock::acquire(path("lock")).ok());
}

}  // namespace
}  // namespace ravine::host
