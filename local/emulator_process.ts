/** The Google AI emulator as a part of the stack: as it is, but it ends when the stack does. */
import "./exit_with_parent.ts";
import "./emulator/main.ts";
