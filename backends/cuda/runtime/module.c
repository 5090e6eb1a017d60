// Kernel images by name. A program keeps the images it was loaded with when a name gets a new one.
#include <stdlib.h>
#include <string.h>

#include "internal.h"

// The driver takes a pointer without a length and trusts the headers: no table or section may leave the image.
static bool check_image(const char *name, const uint8_t *image, size_t bytes, em_error *error) {
  uint64_t program_headers = 0, section_headers = 0;
  uint16_t program_size = 0, programs = 0, section_size = 0, sections = 0;
  bool good = bytes >= 64 && memcmp(image, "\x7f" "ELF\2\1", 6) == 0;
  if (good) {
    memcpy(&program_headers, image + 32, 8);
    memcpy(&section_headers, image + 40, 8);
    memcpy(&program_size, image + 54, 2);
    memcpy(&programs, image + 56, 2);
    memcpy(&section_size, image + 58, 2);
    memcpy(&sections, image + 60, 2);
    good = (programs == 0 || (program_size == 56 && program_headers <= bytes &&
                              (uint64_t)programs * 56 <= bytes - program_headers)) &&
           (sections == 0 || (section_size == 64 && section_headers <= bytes &&
                              (uint64_t)sections * 64 <= bytes - section_headers));
  }
  // A file range: program headers hold offset at 8 and size at 32, section headers at 24 and 32.
  for (int i = 0; good && i < programs + sections; i++) {
    const bool is_program = i < programs;
    const uint8_t *header =
        image + (is_program ? program_headers + 56 * (uint64_t)i : section_headers + 64 * (uint64_t)(i - programs));
    const uint32_t no_bits = 8;
    uint32_t type;
    uint64_t offset, size;
    memcpy(&type, header + (is_program ? 0 : 4), 4);
    memcpy(&offset, header + (is_program ? 8 : 24), 8);
    memcpy(&size, header + 32, 8);
    good = (!is_program && type == no_bits) || (offset <= bytes && size <= bytes - offset);
  }
  return good || em_fail(error, "invalid_format",
                         "the image of module '%s' is damaged: %zu bytes that are no complete ELF file; build it "
                         "again",
                         name, bytes);
}

bool em_module_load(em_device *device, const char *name, const void *image, size_t bytes, em_error *error) {
  if (!check_image(name, image, bytes, error)) return false;
  if (!em_device_enter(device, error)) return false;
  em_module *module = calloc(1, sizeof *module);
  if (module) module->name = strdup(name);
  bool good = module && module->name;
  if (!good) {
    em_fail(error, "out_of_memory", "no host memory for module '%s'", name);
  } else {
    good = EM_CALL(device, error, cuLibraryLoadData, &module->library, image, NULL, NULL, 0, NULL, NULL, 0);
    if (!good) em_error_place(error, NULL, NULL, NULL, name);
  }
  if (good) {
    em_module **link = &device->modules;
    while (*link && strcmp((*link)->name, name) != 0) link = &(*link)->next;
    em_module *replaced = *link;
    module->references = 1;
    module->next = replaced ? replaced->next : NULL;
    *link = module;
    if (replaced) em_module_give_back(device, replaced);
  } else if (module) {
    free(module->name);
    free(module);
  }
  em_device_leave(device);
  return good;
}

em_module *em_module_take(em_device *device, const char *name) {
  em_module *module = device->modules;
  while (module && strcmp(module->name, name) != 0) module = module->next;
  if (module) module->references++;
  return module;
}

void em_module_give_back(em_device *device, em_module *module) {
  if (--module->references > 0) return;
  device->driver->cuLibraryUnload(module->library);
  free(module->name);
  free(module);
}
