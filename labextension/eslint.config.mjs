import js from "@eslint/js";
import globals from "globals";

// Text of the agent is hostile until proven otherwise: the page is built from nodes, never from markup.
const markup = ["innerHTML", "outerHTML", "srcdoc"].map((name) => ({
  selector: `AssignmentExpression > MemberExpression.left[property.name="${name}"]`,
  message: `${name} parses markup: build DOM nodes instead.`,
}));
const calls = ["insertAdjacentHTML", "createContextualFragment", "setHTMLUnsafe", "write", "writeln"].map(
  (name) => ({
    selector: `CallExpression[callee.property.name="${name}"]`,
    message: `${name} parses markup: build DOM nodes instead.`,
  }),
);

export default [
  { ignores: ["**/node_modules/**", "**/.venv/**", "**/.venvs/**"] },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-syntax": ["error", ...markup, ...calls],
      "no-script-url": "error",
      "no-shadow": "error",
      "no-unused-vars": "error",
      "no-var": "error",
      "prefer-const": "error",
    },
  },
];
