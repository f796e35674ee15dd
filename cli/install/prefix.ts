/** What all functions' names may begin with in a repository that has functions of these names: empty, or as `eve-`. */
export const FUNCTION_PREFIX = /^([a-z][a-z0-9]{0,19}-)?$/;
