import type { ISettingRegistry } from "@jupyterlab/settingregistry";
import { type ISignal, Signal } from "@lumino/signaling";

export const PLUGIN = "agent-magics:plugin";

/** What the user chose in the settings; the defaults stand here for a Lab without a registry. */
export class Choices {
  highlight = true;
  fixButton = true;
  toasts = true;
  desktopNotifications = false;

  /** Emitted when one of them is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  async follow(registry: ISettingRegistry): Promise<void> {
    const settings = await registry.load(PLUGIN);
    const read = () => {
      for (const name of ["highlight", "fixButton", "toasts", "desktopNotifications"] as const) {
        this[name] = settings.composite[name] === undefined ? this[name] : settings.composite[name] === true;
      }
      this._changed.emit();
    };
    settings.changed.connect(read);
    read();
  }

  private readonly _changed = new Signal<this, void>(this);
}
