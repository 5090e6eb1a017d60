// What the programs that drive the C runtime without Node share.
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "exactmap.h"

static uint8_t *read_all(const char *path, size_t *bytes) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    exit(2);
  }
  fseek(file, 0, SEEK_END);
  *bytes = (size_t)ftell(file);
  rewind(file);
  uint8_t *content = malloc(*bytes + 1);
  if (fread(content, 1, *bytes, file) != *bytes) exit(2);
  fclose(file);
  return content;
}

static bool load_images(em_device *device, const char *folder, const uint8_t *file, size_t bytes, em_error *error) {
  em_plan *plan;
  const char *name;
  bool good = em_plan_open(file, bytes, &plan, error);
  for (uint32_t i = 0; good && (name = em_plan_module(plan, i)); i++) {
    char path[4096];
    size_t count;
    snprintf(path, sizeof path, "%s/%s.so", folder, name);
    uint8_t *image = read_all(path, &count);
    good = em_module_load(device, name, image, count, error);
    free(image);
  }
  em_plan_close(plan);
  return good;
}
