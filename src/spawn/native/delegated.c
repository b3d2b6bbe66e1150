// delegated(path): whether systemd has left a cgroup to its processes, which it marks by an extended attribute.
// Node.js cannot read extended attributes.
#include <node_api.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif

// (path) => boolean
napi_value delegated(napi_env env, napi_callback_info info) {
  int is_delegated = 0;
#ifdef __linux__
  size_t count = 1;
  napi_value argument;
  char path[4096] = "", value[2];
  napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
  if (count == 1) napi_get_value_string_utf8(env, argument, path, sizeof path, NULL);
  static const char *const names[] = {"trusted.delegate", "user.delegate"};
  for (int i = 0; i < 2; i++) {
    if (getxattr(path, names[i], value, sizeof value) == 1 && value[0] == '1') is_delegated = 1;
  }
#endif
  napi_value result;
  napi_get_boolean(env, is_delegated, &result);
  return result;
}
